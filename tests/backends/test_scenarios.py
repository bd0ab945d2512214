"""What each handler and filter goes through on its real backend."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest
from harness import fio
from harness.backend import Backend
from harness.case import Case, all_cases
from harness.lun import Lun, SenseError
from harness.model import Model
from harness.served import Served
from harness.writers import SLOT, Writers, content

from tcmu_runner.handler.registry import Registry
from tcmu_runner.scsi.sense import SPACE_ALLOCATION_FAILED as FULL
from tcmu_runner.testing.conformance import Openable, check_handler, device

GONE_SECONDS = float(os.environ.get("BACKENDS_GONE_SECONDS", "4"))
KILLS = int(os.environ.get("BACKENDS_KILLS", "3"))
COMMANDS = int(os.environ.get("BACKENDS_COMMANDS", "250"))
FIO_BYTES = int(os.environ.get("BACKENDS_FIO_MIB", "4")) << 20
SEED = int(os.environ.get("BACKENDS_SEED", "1"))
LOAD_SECONDS = 1.0


def test_contract(case: Case, backend: Backend) -> None:
    """The conformance kit on the handler, in this process."""
    if backend.settings:
        pytest.skip("a stack: the tests of its filters run the kit on them")
    registry = Registry()
    registry.load_entry_points()
    provider, parts = registry.find(backend.config)
    assert isinstance(provider, type)
    options = provider.parse(parts.rest)

    def open_handler() -> Openable[object]:
        return provider.open(device(case.size, case.block_size), options)

    report = check_handler(open_handler, size=case.size, block_size=case.block_size, persistent=True)
    assert report.ok, str(report)


def test_model(served: Served) -> None:
    """Random commands; afterwards another process finds the same bytes."""
    with served.connect() as lun:
        model = Model(lun, SEED)
        for _ in range(COMMANDS):
            model.step()
        model.check_all(lun)
    served.stop()
    served.start()
    with served.connect() as lun:
        model.check_all(lun)


def test_fio_verify(served: Served, tmp_path: Path) -> None:
    """Sixteen commands at once, of all sizes."""
    fio.verify(served, tmp_path, FIO_BYTES, SEED)


def test_served_killed(served: Served, backend: Backend) -> None:
    """SIGKILL for whoever serves the LUN, in the middle of writes: what was acknowledged is there."""
    writers = Writers(served, SEED)
    for _ in range(KILLS):
        writers.start()
        time.sleep(LOAD_SECONDS)
        served.kill()
        writers.join()
        backend.revive()
        served.start()
        with served.connect() as lun:
            writers.check_after_crash(lun)
    assert writers.failures == []
    assert writers.cut_off == KILLS * 4
    assert writers.written


def test_backend_killed(served: Served, backend: Backend) -> None:
    """SIGKILL for the server; back at once. No initiator hears of it, and nothing is forgotten."""
    served.expected = served.case.complaints
    writers = Writers(served, SEED)
    writers.start()
    for _ in range(KILLS):
        time.sleep(LOAD_SECONDS)
        backend.kill()
        backend.start()
    time.sleep(LOAD_SECONDS)
    finish(writers, served)


def test_backend_slow(served: Served, backend: Backend) -> None:
    """It stands still again and again."""
    served.expected = served.case.complaints
    writers = Writers(served, SEED)
    writers.start()
    for _ in range(4):
        backend.freeze()
        time.sleep(LOAD_SECONDS / 2)
        backend.thaw()
        time.sleep(LOAD_SECONDS / 8)
    finish(writers, served)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_backend_gone(served: Served, backend: Backend, how: str) -> None:
    """For a while, and back: commands wait for it, or end in BUSY and are sent again."""
    served.expected = served.case.complaints
    writers = Writers(served, SEED)
    writers.start()
    time.sleep(LOAD_SECONDS)
    leave, come_back = (backend.kill, backend.start) if how == "killed" else (backend.freeze, backend.thaw)
    leave()
    time.sleep(GONE_SECONDS)
    come_back()
    time.sleep(LOAD_SECONDS)
    finish(writers, served)


def finish(writers: Writers, served: Served) -> None:
    """Ends the load: no command may have failed, no byte may be wrong, now and after an orderly end."""
    writers.finish()
    assert (writers.failures, writers.cut_off) == ([], 0)
    assert writers.written
    with served.connect() as lun:
        writers.check_live(lun)
    served.stop()
    served.start()
    with served.connect() as lun:
        writers.check_live(lun)


@pytest.mark.usefixtures("narrow")
def test_backend_full(served: Served, backend: Backend) -> None:
    """Writes end in the sense that says so, what was there stays, and space that comes back is used."""
    served.expected = (r"failed: OSError: \[Errno 28\]", *served.case.complaints)
    with served.connect() as lun:
        numbers = range(lun.size // SLOT)
        before = Random(SEED).sample(numbers, len(numbers) // 8)
        write(lun, before, 1)
        backend.fill()
        lost = write_until_full(lun, sorted({*numbers} - {*before}))
        check(lun, before, 1)
        backend.drain()
        write(lun, lost, 2)
        check(lun, before, 1)
        check(lun, lost, 2)


def write(lun: Lun, slots: list[int], value: int) -> None:
    for slot in slots:
        lun.write(slot * SLOT, content(slot, value))
    lun.flush()


def check(lun: Lun, slots: list[int], value: int) -> None:
    for slot in slots:
        assert lun.read(slot * SLOT, SLOT) == content(slot, value), f"slot {slot} is wrong"


def write_until_full(lun: Lun, slots: list[int]) -> list[int]:
    """The slots that were not taken, of those tried until some dozen failed."""
    lost = []
    for slot in slots:
        try:
            lun.write(slot * SLOT, content(slot, 2))
            lun.flush()
        except SenseError as error:
            assert error.sense == (FULL.key, FULL.asc, FULL.ascq)
            lost.append(slot)
            if len(lost) > 12:
                return lost
    raise AssertionError("the backend never was full")


SCENARIOS = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
ELSEWHERE = {
    "file": {
        "backend_killed": "a local disk: there is no server",
        "backend_slow": "tests/vm/test_storage_below.py",
        "backend_gone": "tests/vm/test_storage_below.py",
    },
    "zstd": {
        "backend_killed": "power losses: tests/vm/test_zstd.py",
        "backend_slow": "tests/vm/test_storage_below.py",
        "backend_gone": "tests/vm/test_storage_below.py",
    },
    "rbd": {"backend_full": "test_ceph.py"},
    "glfs": {"contract": "test_kit.py"},
    "qemu": dict.fromkeys(
        ("backend_killed", "backend_slow", "backend_gone", "backend_full"), "qcow is the same handler"
    ),
}
"""Where a handler or filter goes through what no case of it here does, or why it cannot."""


def test_everything_goes_through_every_scenario() -> None:
    """By one of its cases: `luks over nbd` is one of luks."""
    done: dict[str, set[str]] = {}
    for case in all_cases():
        assert set(case.without) <= SCENARIOS, case.name
        assert all(case.without.values()), case.name
        done.setdefault(case.subject, set()).update(SCENARIOS - set(case.without))
    missing = {subject: SCENARIOS - seen for subject, seen in done.items() if SCENARIOS - seen}
    assert missing == {subject: set(excused) for subject, excused in ELSEWHERE.items()}
