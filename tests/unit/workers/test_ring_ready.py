"""The go-ahead for a ring: given, refused, and of a giver that has died."""

import os

import pytest

from tcmu_runner.errors import DeviceError
from tcmu_runner.workers.ring_ready import RingReady, wait_for


def test_it_is_given_at_the_end_of_what_comes_before() -> None:
    ring_ready = RingReady()
    os.set_blocking(ring_ready.waits_at, False)
    with ring_ready, pytest.raises(BlockingIOError):
        wait_for(ring_ready.waits_at)
    wait_for(ring_ready.waits_at)
    ring_ready.close()


def test_an_error_refuses_it() -> None:
    ring_ready = RingReady()
    with pytest.raises(OSError, match="busy"), ring_ready:
        raise OSError("busy")
    with pytest.raises(DeviceError, match="its ring could not be emptied"):
        wait_for(ring_ready.waits_at)
    ring_ready.close()


def test_a_dead_giver_refuses_it() -> None:
    ring_ready = RingReady()
    if os.fork() == 0:
        os._exit(0)
    os.close(ring_ready._given_at)
    os.wait()
    with pytest.raises(DeviceError):
        wait_for(ring_ready.waits_at)
    ring_ready.close()
