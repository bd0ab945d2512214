"""Eventfds as UIO devices: each write is what the kernel does for a command, and nobody reads."""

import os
import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from tcmu_runner.kernel.ring_monitor import RingMonitor
from tcmu_runner.kernel.uio import UioDevice


def ring(uio: UioDevice) -> None:
    os.eventfd_write(uio.fileno(), 1)


def rings(ring_monitor: RingMonitor) -> bool:
    return bool(select.select([ring_monitor], [], [], 0)[0])


@pytest.fixture
def uio() -> Iterator[UioDevice]:
    with closing(UioDevice(0, os.eventfd(0))) as uio:
        yield uio


def test_it_rings_until_it_is_cleared_and_again_at_each_event(uio: UioDevice) -> None:
    ring_monitor = RingMonitor()
    ring_monitor.add(uio)
    assert not rings(ring_monitor)
    for _ in range(3):
        ring(uio)
        assert rings(ring_monitor)
        assert rings(ring_monitor)
        ring_monitor.clear()
        assert not rings(ring_monitor)


def test_what_came_before_it_was_set_rings_once(uio: UioDevice) -> None:
    ring_monitor = RingMonitor()
    ring(uio)
    ring_monitor.add(uio)
    assert rings(ring_monitor)
    ring_monitor.clear()
    assert not rings(ring_monitor)


def test_a_worker_that_still_has_the_device_rings_no_more(uio: UioDevice) -> None:
    ring_monitor, workers = RingMonitor(), UioDevice(0, os.dup(uio.fileno()))
    ring_monitor.add(uio)
    ring_monitor.remove(uio)
    uio.close()
    with closing(workers):
        ring(workers)
        assert not rings(ring_monitor)
