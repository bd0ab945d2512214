"""Eventfds as UIO devices: each write is what the kernel does for a command, and nobody reads."""

import os
import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from tcmu_runner.kernel.alarm import Alarm
from tcmu_runner.kernel.uio import UioDevice


def ring(uio: UioDevice) -> None:
    os.eventfd_write(uio.fileno(), 1)


def rings(alarm: Alarm) -> bool:
    return bool(select.select([alarm], [], [], 0)[0])


@pytest.fixture
def uio() -> Iterator[UioDevice]:
    with closing(UioDevice(0, os.eventfd(0))) as uio:
        yield uio


def test_it_rings_until_it_is_cleared_and_again_at_each_event(uio: UioDevice) -> None:
    alarm = Alarm()
    alarm.add(uio)
    assert not rings(alarm)
    for _ in range(3):
        ring(uio)
        assert rings(alarm)
        assert rings(alarm)
        alarm.clear()
        assert not rings(alarm)


def test_what_came_before_it_was_set_rings_once(uio: UioDevice) -> None:
    alarm = Alarm()
    ring(uio)
    alarm.add(uio)
    assert rings(alarm)
    alarm.clear()
    assert not rings(alarm)


def test_a_worker_that_still_has_the_device_rings_no_more(uio: UioDevice) -> None:
    alarm, workers = Alarm(), UioDevice(0, os.dup(uio.fileno()))
    alarm.add(uio)
    alarm.remove(uio)
    uio.close()
    with closing(workers):
        ring(workers)
        assert not rings(alarm)
