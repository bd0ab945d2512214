"""Which state belongs to which device, and how long: after a new daemon, a removal, a reboot."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tcmu_runner.engine.unit_memory import Record
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName
from tcmu_runner.scsi.unit_state import FORGOTTEN
from tcmu_runner.workers.state_files import StateFiles

NAME = DeviceName(0, "vol0", "file//srv/disk.img")


@contextmanager
def opened(paths: Paths, name: DeviceName = NAME) -> Iterator[tuple[StateFiles, Record, Record]]:
    with closing(StateFiles(name, paths)) as state:
        current, lasting = state.descriptors
        yield state, Record(current), Record(lasting)


def test_the_next_daemon_finds_what_was_set(paths: Paths) -> None:
    with opened(paths) as (state, current, _):
        state.begin(5)
        current.store({"stopped": True})
    with opened(paths) as (state, current, _):
        state.resume(5)
        assert current.load() == {"stopped": True}


def test_a_new_device_of_the_same_name_knows_nothing(paths: Paths) -> None:
    with opened(paths) as (state, current, _):
        state.begin(5)
        current.store({"stopped": True})
    with opened(paths) as (state, current, _):
        state.begin(6)
        assert current.load() is None


@pytest.mark.parametrize(
    ("device_id", "name"),
    [(6, NAME), (5, DeviceName(0, "vol0", "file//srv/other.img"))],
    ids=["made again while no daemon ran", "changed while no daemon ran"],
)
def test_what_was_set_of_another_device_is_not_taken_over(
    paths: Paths, device_id: int, name: DeviceName
) -> None:
    with opened(paths) as (state, current, _):
        state.begin(5)
        current.store({"stopped": True})
    with opened(paths, name) as (state, current, _):
        state.resume(device_id)
        assert current.load() == FORGOTTEN  # initiators of its own may have set something


def test_a_device_of_another_daemon_is_one_of_which_nothing_is_known(paths: Paths) -> None:
    with opened(paths) as (state, current, _):
        state.resume(5)
        assert current.load() == FORGOTTEN
        assert not state.write_cache()


def test_a_record_that_cannot_be_read_is_forgotten(paths: Paths) -> None:
    with opened(paths) as (state, current, _):
        state.begin(5)
        state.resume(5)
        assert current.load() == FORGOTTEN


def test_a_removal_ends_all_but_what_lasts(paths: Paths) -> None:
    with opened(paths) as (state, current, lasting):
        state.begin(5)
        current.store({"stopped": True})
        lasting.store({"write_through": True})
        state.forget()
    assert not list((paths.run / "units").iterdir())
    with opened(paths, DeviceName(3, "vol0", NAME.config)) as (_, _, lasting):  # as rtslib restores it
        assert lasting.load() == {"write_through": True}
    with opened(paths, DeviceName(0, "vol0", "file//srv/other.img")) as (_, _, lasting):
        assert lasting.load() is None


def test_nothing_is_left_of_a_removed_device_of_which_nothing_lasts(paths: Paths) -> None:
    with opened(paths) as (state, _, lasting):
        state.begin(5)
        lasting.store({"write_through": True})
        lasting.store({})
        state.forget()
    assert not list((paths.state / "units").iterdir())


def test_only_root_reads_them(paths: Paths) -> None:
    with opened(paths):
        for directory in (paths.run / "units", paths.state / "units"):
            (file,) = directory.iterdir()
            assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("device", ["x" * 250, "gr\udcf6\udcdfe", "é" * 120, "..", "a\nb"])
def test_every_name_of_a_device_has_a_file(paths: Paths, device: str) -> None:
    with opened(paths, DeviceName(0, device, "ram/")) as (state, current, _):
        state.begin(5)
        current.store({"stopped": True})
    with opened(paths, DeviceName(0, device, "ram/")) as (state, current, _):
        state.resume(5)
        assert current.load() == {"stopped": True}


def test_names_that_begin_alike_have_files_of_their_own(paths: Paths) -> None:
    with (
        opened(paths, DeviceName(0, "x" * 200 + "1", "ram/")),
        opened(paths, DeviceName(0, "x" * 200 + "2", "ram/")),
        opened(paths, DeviceName(1, "x" * 200 + "2", "ram/")),
    ):
        assert len(list((paths.run / "units").iterdir())) == 3


def test_without_a_place_for_files_it_is_in_memory(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    paths.run.parent.mkdir(parents=True, exist_ok=True)
    paths.run.write_bytes(b"")  # where a directory should be
    with opened(paths) as (state, current, _):
        state.begin(5)
        current.store({"stopped": True})  # for the next worker
        assert Record(os.dup(state.descriptors[0])).load() == {"stopped": True}
    (line,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert line.startswith("user_0/vol0: ")
    assert "a restart of the daemon resets WCE, SWP and the like" in line
    caplog.clear()


def test_without_space_it_is_in_memory(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(paths) as (state, _, _), monkeypatch.context() as context:
        context.setattr(os, "posix_fallocate", full)
        state.begin(5)
        assert "memfd:" in str(Path(f"/proc/self/fd/{state.descriptors[0]}").readlink())
    caplog.clear()
