"""What is told of devices, in which order, and how much of it is kept."""

import logging
from pathlib import Path

from tcmu_runner.engine.observe.view import State
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioEntry
from tcmu_runner.supervisor.device import KernelDevice
from tcmu_runner.supervisor.journal import Journal

from .unserved import unserved


def device(tmp_path: Path, minor: int, name: str) -> KernelDevice:
    return unserved(UioEntry(minor, DeviceName(0, name, "ram/;x=1")), Paths.under(tmp_path))


def test_the_last_200_happenings_are_kept_oldest_first(tmp_path: Path) -> None:
    times = iter(range(1000))
    journal, vol0 = Journal(lambda: next(times)), device(tmp_path, 0, "vol0")
    journal.open(vol0)  # at 0
    for number in range(1, 251):
        journal.note(vol0, logging.INFO, f"happening {number}")
    kept = journal.device_events()
    assert [device_event.time for device_event in kept] == list(range(51, 251))
    assert (kept[0].device, kept[0].level, kept[0].text) == ("user_0/vol0", logging.INFO, "happening 51")


def test_since_is_when_the_state_changed(tmp_path: Path) -> None:
    times = iter([10.0, 20.0, 30.0, 40.0])
    journal, vol0 = Journal(lambda: next(times)), device(tmp_path, 0, "vol0")
    journal.open(vol0)
    journal.note(vol0, logging.INFO, "added", State.SERVING)
    journal.note(vol0, logging.INFO, "still there", State.SERVING)
    (record,) = journal
    assert (record.state, record.since) == (State.SERVING, 20.0)
    journal.enter(vol0, State.RECOVERING)
    assert (record.state, record.since) == (State.RECOVERING, 40.0)


def test_devices_come_by_name_and_a_record_is_of_its_device(tmp_path: Path) -> None:
    journal = Journal()
    first, second, later = (device(tmp_path, *which) for which in [(0, "b"), (1, "a"), (0, "c")])
    for which in (first, second):
        journal.open(which)
    assert [record.view().name for record in journal] == ["user_0/a", "user_0/b"]
    journal.open(later)
    assert (journal.state(first), journal.state(later)) == (None, State.OPENING)
    journal.close(0)
    journal.close(0)
    assert [record.view().handler for record in journal] == ["ram"]
