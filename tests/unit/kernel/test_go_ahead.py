"""The go-ahead for a ring: given, refused, and of a giver that has died."""

import os

import pytest

from tcmu_runner.errors import DeviceError
from tcmu_runner.kernel.go_ahead import GoAhead, wait_for


def test_it_is_given_at_the_end_of_what_comes_before() -> None:
    go_ahead = GoAhead()
    os.set_blocking(go_ahead.waits_at, False)
    with go_ahead, pytest.raises(BlockingIOError):
        wait_for(go_ahead.waits_at)
    wait_for(go_ahead.waits_at)
    go_ahead.close()


def test_an_error_refuses_it() -> None:
    go_ahead = GoAhead()
    with pytest.raises(OSError, match="busy"), go_ahead:
        raise OSError("busy")
    with pytest.raises(DeviceError, match="its ring could not be emptied"):
        wait_for(go_ahead.waits_at)
    go_ahead.close()


def test_a_dead_giver_refuses_it() -> None:
    go_ahead = GoAhead()
    if os.fork() == 0:
        os._exit(0)
    os.close(go_ahead._given_at)
    os.wait()
    with pytest.raises(DeviceError):
        wait_for(go_ahead.waits_at)
    go_ahead.close()
