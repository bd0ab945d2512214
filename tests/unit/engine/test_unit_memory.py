"""One LUN after the other in the same files, as when a worker is replaced or the machine starts again."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tcmu_runner import Device
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.unit_memory import Record, UnitMemory
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Ticket
from tcmu_runner.scsi.sense import Status

from .bench import Bench, Memory

# SPC-5 6.12: MODE SELECT(6), PF, a header of 4 bytes and the caching page (SBC-4 6.5.6) with WCE 0
SELECT, WCE_OFF = "151000001800", bytes.fromhex("00000000 081200") + bytes(17)
SENSE_CACHING = "1a0808001700"
TEST_UNIT_READY = "000000000000"
STOP = "1b0000000400"  # NO_FLUSH


class Cached(Memory):
    """With a write cache that can be emptied; it loses a write at its close where a test says so."""

    def __init__(self, device: Device | None = None) -> None:
        super().__init__()
        self.loses_at_close = device

    def flush(self) -> None:
        return

    def close(self) -> None:
        if self.loses_at_close is not None:
            self.loses_at_close.write_lost(OSError(errno.EIO, "the storage is gone"))


class Files:
    def __init__(self) -> None:
        self.current, self.lasting = os.memfd_create("current"), os.memfd_create("lasting")

    def memory(self) -> UnitMemory:
        return UnitMemory(Record(os.dup(self.current)), Record(os.dup(self.lasting), lasting=True))

    def reboot(self) -> None:
        os.ftruncate(self.current, 0)

    def close(self) -> None:
        os.close(self.current)
        os.close(self.lasting)


class Remembering(Bench):
    def __init__(self, handler: Cached, files: Files) -> None:
        self.memory = files.memory()
        super().__init__(handler)

    def attach(self) -> None:
        self.lun.attach(
            self.transport, LP64, self.broken.append, thread=RingThread("ring"), memory=self.memory
        )

    def close(self) -> None:
        super().close()
        self.memory.close()

    @property
    def wce(self) -> bool:
        return bool(self.run(SENSE_CACHING, room=23).data[4 + 2] & 0x04)


@pytest.fixture
def files() -> Iterator[Files]:
    files = Files()
    yield files
    files.close()


@contextmanager
def life(files: Files, handler: Cached | None = None) -> Iterator[Remembering]:
    bench = Remembering(handler or Cached(), files)
    try:
        yield bench
    finally:
        bench.close()


def sense_of(ticket: Ticket) -> tuple[int, int, int]:
    """Key, ASC, ASCQ of fixed format (SPC-5 table 46)."""
    assert ticket.status == Status.CHECK_CONDITION
    return ticket.sense[2] & 0x0F, ticket.sense[12], ticket.sense[13]


def test_the_next_worker_knows_it_however_the_last_one_ended(files: Files) -> None:
    with life(files) as killed:
        assert killed.wce
        assert killed.run(SELECT, WCE_OFF).status == Status.GOOD
        with life(files) as successor:  # the other one has ended without a word
            assert not successor.wce
            assert successor.run(TEST_UNIT_READY).status == Status.GOOD


def test_a_reboot_ends_all_but_what_endangers_data(files: Files) -> None:
    with life(files) as before:
        before.run(SELECT, WCE_OFF)
        before.run(STOP)
        assert sense_of(before.run(TEST_UNIT_READY)) == (0x2, 0x04, 0x02)
    files.reboot()
    with life(files) as after:
        assert not after.wce
        assert after.run(TEST_UNIT_READY).status == Status.GOOD


def test_a_cache_that_is_switched_on_again_stays_on(files: Files) -> None:
    with life(files) as before:
        before.run(SELECT, WCE_OFF)
        before.run(SELECT, WCE_OFF[:6] + b"\4" + WCE_OFF[7:])
    files.reboot()
    with life(files) as after:
        assert after.wce


def test_a_lun_of_which_nothing_is_set_leaves_nothing_that_lasts(files: Files) -> None:
    with life(files) as bench:
        bench.run(TEST_UNIT_READY)
    assert os.fstat(files.lasting).st_size == 0


def test_a_format_in_the_background_that_a_stop_cuts_short_has_failed(files: Files) -> None:
    handler = Cached()
    with life(files, handler) as before:
        before.lun.unit.spawn = lambda _steps: None
        assert before.run("041000000000", bytes.fromhex("00020000")).status == Status.GOOD
    for _ in range(2):
        with life(files) as after:
            assert sense_of(after.run(TEST_UNIT_READY)) == (0x3, 0x31, 0x01)
        files.reboot()


def test_of_a_storage_that_ends_with_its_process_nothing_lasts(files: Files) -> None:
    class Volatile(Cached):
        volatile = True

    with life(files, Volatile()) as before:
        before.run(SELECT, WCE_OFF)
    assert os.fstat(files.lasting).st_size == 0
    with life(files, Volatile()) as after:
        assert not after.wce
    files.reboot()
    with life(files, Volatile()) as after:
        assert after.wce


def test_a_write_that_is_lost_at_the_close_is_for_the_next_one_to_report(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Cached()
    with life(files, handler) as before:
        handler.loses_at_close = before.device
    with life(files) as after:
        ticket = after.run(TEST_UNIT_READY)
        assert ticket.sense[0] & 0x7F == 0x71  # SPC-5 4.4.7: deferred
        assert sense_of(ticket)[0] in (0x3, 0x4)
        assert after.run(TEST_UNIT_READY).status == Status.GOOD
    caplog.clear()


def test_another_size_is_announced_and_logged(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with life(files) as before:
        before.run(TEST_UNIT_READY)
    record = Record(files.current)
    record.store((record.load() or {}) | {"size": 1 << 19})
    with life(files) as after:
        assert sense_of(after.run(TEST_UNIT_READY)) == (0x6, 0x2A, 0x09)
    (line,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "size changed from 524288 to 1048576 bytes" in line.getMessage()
    caplog.clear()


@pytest.mark.parametrize(
    "strange",
    [{"attentions": [{"key": 6, "asc": 0, "ascq": 0, "specific": None, "newer": 1}]}, {"attentions": [{}]},
     {"self_tests": ["xy"]}, {"erasing": {}}, {"erasing": 5}],
    ids=str,
)  # fmt: skip
def test_what_another_version_has_kept_and_is_not_understood(
    strange: dict[str, object], files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    Record(files.current).store({"write_through": True, "stopped": True} | strange)
    with life(files) as bench:
        assert sense_of(bench.run(TEST_UNIT_READY)) == (0x6, 0x29, 0x04)
        assert not bench.wce
    assert "state of another version is not understood" in caplog.text
    caplog.clear()


def test_where_nothing_can_be_kept_the_log_says_so_once(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with life(files) as bench:
        monkeypatch.setattr(Record, "store", full)
        assert bench.run(STOP).status == Status.GOOD
        bench.lun.unit.remember()
        monkeypatch.undo()
    assert [each.getMessage() for each in caplog.records if "cannot store" in each.getMessage()] == [
        "user_0/test: cannot store state: [Errno 28] No space left on device: a restart resets WCE, SWP and "
        "the like"
    ]
    caplog.clear()
