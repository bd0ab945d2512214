"""A whole LUN: commands on the ring, a handler below, completions back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from tcmu_runner import NOT_HANDLED, AsyncHandler, NotHandled, RawHandler, Space
from tcmu_runner.engine.lun import SPACE_SECONDS
from tcmu_runner.engine.serve.dispatcher import RELIEF_SECONDS, STALE_SECONDS
from tcmu_runner.errors import ConfigError, TransportGoneError
from tcmu_runner.handler.config import Late
from tcmu_runner.iov import Buffers
from tcmu_runner.ring.consumer import RingCorrupt
from tcmu_runner.ring.layout import LP64
from tcmu_runner.ring.producer import Ticket
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.profile import Limits
from tcmu_runner.scsi.sense import Status

from .bench import Bench, Latch, Memory

READ_LBA_8 = "28 00 00000008 00 0001 00"  # READ(10), SBC-4 5.16: one block at LBA 8
WRITE_LBA_8 = "2a 00 00000008 00 0001 00"
INQUIRY_255 = "12 00 00 00ff 00"
TEST_UNIT_READY = "00 00 00 00 00 00"
COMPARE_AND_WRITE_LBA_8 = "89 00 0000000000000008 000000 01 00 00"  # SBC-4 5.3: one block
TIME_OUT = 1  # seconds
GOOD, CHECK_CONDITION, BUSY, TASK_ABORTED = 0x00, 0x02, 0x08, 0x40  # SAM-5 table 33


class Gate(Memory):
    """Reads wait at a gate, so that a test decides in which order commands end."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.waiting = threading.Semaphore(0)

    def read(self, into: Buffers, offset: int) -> None:
        self.waiting.release()
        assert self.opened.wait(60)
        super().read(into, offset)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(Memory())
    yield made
    made.close()


def test_what_is_written_is_read(bench: Bench) -> None:
    assert bench.run(WRITE_LBA_8, b"\x5a" * 512).status == GOOD
    ticket = bench.run(READ_LBA_8, room=512)
    assert (ticket.status, bytes(ticket.data)) == (GOOD, b"\x5a" * 512)


def test_a_deep_queue_completes_every_command_once(bench: Bench) -> None:
    writes = [bench.submit(f"2a 00 {lba:08x} 00 0001 00", bytes([lba]) * 512) for lba in range(200)]
    bench.wait(*writes)
    reads = [bench.submit(f"28 00 {lba:08x} 00 0001 00", room=512) for lba in range(200)]
    bench.wait(*reads)
    assert [bytes(ticket.data) for ticket in reads] == [bytes([lba]) * 512 for lba in range(200)]


def test_a_short_answer_never_shows_what_was_in_its_buffer_before(bench: Bench) -> None:
    """Sharp edge 3; the C daemon returns other commands' data behind an INQUIRY answer."""
    bench.run(WRITE_LBA_8, b"\xee" * 512)
    ticket = bench.run(INQUIRY_255, room=255)
    assert ticket.status == GOOD
    assert b"\xee" not in bytes(ticket.data)
    empty = bench.run(TEST_UNIT_READY, room=512)  # a data-in buffer for a command that has no data
    assert b"\xee" not in bytes(empty.data)


def test_a_failing_read_is_a_medium_error(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Memory):
        def read(self, into: Buffers, offset: int) -> None:
            raise OSError(5, "Input/output error")

    bench = Bench(Failing())
    ticket = bench.run(READ_LBA_8, room=512)
    bench.close()
    assert ticket.status == CHECK_CONDITION
    assert (ticket.sense[2], ticket.sense[12], ticket.sense[13]) == (0x03, 0x11, 0x00)  # SPC-5 table F.2
    assert "user_0/test" in caplog.text
    assert "Input/output error" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), SystemExit(3)])
def test_a_bug_in_the_handler_costs_one_command(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """prior-art 2.1 #14, inside one process: the LUN lives on."""

    class Buggy(Memory):
        def read(self, into: Buffers, offset: int) -> None:
            raise error

    bench = Bench(Buggy())
    ticket = bench.run(READ_LBA_8, room=512)
    assert bench.run(WRITE_LBA_8, bytes(512)).status == GOOD
    bench.close()
    assert (ticket.sense[2], ticket.sense[12]) == (0x04, 0x44)  # INTERNAL TARGET FAILURE
    assert "bug in the handler" in caplog.text
    caplog.clear()


def test_a_resize_is_told_once(bench: Bench) -> None:
    bench.lun.resize(2 << 20)
    told = bench.run(TEST_UNIT_READY)
    assert (told.status, told.sense[2], told.sense[12:14]) == (CHECK_CONDITION, 0x06, b"\x2a\x09")
    assert bench.run(TEST_UNIT_READY).status == GOOD
    capacity = bench.run("25 00 00000000 0000 00 00", room=8)
    assert bytes(capacity.data) == bytes.fromhex("00000fff 00000200")


@pytest.mark.parametrize(("code", "sense"), [(5, "0c00"), (28, "2707"), (11, "0c00")])  # EIO, ENOSPC, EAGAIN
def test_a_write_that_is_lost_later_is_told_as_a_deferred_error(
    bench: Bench, caplog: pytest.LogCaptureFixture, code: int, sense: str
) -> None:
    """SPC-5 4.4.7 and table 28: response code 71h. WRITE ERROR, or SPACE ALLOCATION FAILED WRITE PROTECT."""
    bench.device.write_lost(OSError(code, "the cache could not be written"))
    told = bench.run(READ_LBA_8, room=512)
    assert (told.status, told.sense[0] & 0x7F, told.sense[12:14].hex()) == (CHECK_CONDITION, 0x71, sense)
    assert bench.run(READ_LBA_8, room=512).status == GOOD
    assert "user_0/test: data that was written before is lost" in caplog.text
    caplog.clear()


def test_commands_end_in_any_order() -> None:
    gate = Gate()
    bench = Bench(gate)
    slow = bench.submit(READ_LBA_8, room=512)
    assert gate.waiting.acquire(timeout=60)  # it is on the ring's thread: it came alone
    assert slow.status is None
    gate.opened.set()
    bench.wait(slow)
    bench.close()


def test_drain_waits_for_what_is_under_way() -> None:
    gate = Gate()
    bench = Bench(gate)
    ticket = bench.submit(READ_LBA_8, room=512)
    assert gate.waiting.acquire(timeout=60)
    assert not bench.lun.drain(0.05)
    gate.opened.set()
    assert bench.lun.drain(3600)
    bench.wait(ticket)
    bench.close()


def test_a_reset_from_outside_is_survived(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Sharp edge 7: an administrator writes action/reset_ring under a running daemon, no event comes."""
    for _ in range(5):
        bench.run(WRITE_LBA_8, bytes(512))
    bench.producer.reset()
    ticket = bench.submit(WRITE_LBA_8, b"\x77" * 512)
    bench.wait(ticket)
    assert ticket.status == GOOD
    assert "reset from outside" in caplog.text
    caplog.clear()


def test_a_corrupt_ring_ends_the_pump_and_is_told(bench: Bench) -> None:
    bench.transport.memory.cast("I")[3] = 0xFFFFFFF0  # cmd_head, tcmu-abi 1.1
    bench.submit_event()
    bench.until(lambda: bool(bench.broken))
    assert isinstance(bench.broken[0], RingCorrupt)


def test_a_device_that_went_away_is_told(bench: Bench) -> None:
    bench.transport.kick_error = TransportGoneError()
    bench.submit(TEST_UNIT_READY)
    bench.until(lambda: bool(bench.broken))
    assert isinstance(bench.broken[0], TransportGoneError)


def test_an_asyncio_handler_serves_commands_side_by_side() -> None:
    class Meeting(AsyncHandler[str]):
        """Answers only when two reads are there at once."""

        subtype = "meeting"

        def __init__(self) -> None:
            self.barrier: asyncio.Event | None = None
            self.here = 0

        async def read(self, into: Buffers, offset: int) -> None:
            self.barrier = self.barrier or asyncio.Event()
            self.here += 1
            if self.here == 2:
                self.barrier.set()
            await self.barrier.wait()
            into[0][:] = b"\x42" * len(into[0])

    bench = Bench(Meeting())
    tickets = [bench.submit(READ_LBA_8, room=512) for _ in range(2)]
    bench.wait(*tickets)
    bench.close()
    assert [bytes(ticket.data) for ticket in tickets] == [b"\x42" * 512] * 2


def test_a_raw_handler_sees_commands_first() -> None:
    class Raw(RawHandler[str]):
        subtype = "raw"
        threads: ClassVar[int] = 1

        def command(self, command: Command) -> Status | NotHandled:
            if command.cdb[0] != 0xC1:  # a vendor's own opcode
                return NOT_HANDLED
            command.reply(b"hello", 16)
            return Status.GOOD

    bench = Bench(Raw())
    mine = bench.run("c1 00 00000000 00 0000 00", room=16)
    other = bench.run("c2 00 00000000 00 0000 00")
    ready = bench.run(TEST_UNIT_READY)
    bench.close()
    assert bytes(mine.data[:5]) == b"hello"
    assert (other.status, other.sense[12]) == (CHECK_CONDITION, 0x20)
    assert ready.status == GOOD


def test_a_late_command_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    bench = Bench(gate, time_out=TIME_OUT)
    ticket = bench.submit(READ_LBA_8, room=512)
    bench.pass_until(TIME_OUT + 0.1, lambda: "late" in caplog.text)
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    gate.opened.set()
    bench.wait(ticket)
    bench.close()
    assert "command 28000000000800000100 is late" in caplog.text
    caplog.clear()


def test_a_thin_disk_that_runs_full_says_so() -> None:
    """SBC-4 4.7.3.7: 6/38/07, off the ring's thread, which a slow file system must not hold up."""

    class Thin(Memory):
        used = 10

        def space(self) -> Space:
            assert threading.current_thread().name == "background"
            return Space(self.used, 100 - self.used)

    handler = Thin()
    bench = Bench(handler, limits=Limits(soft_threshold=80))
    bench.lun.watch()
    assert bench.run(TEST_UNIT_READY).status == GOOD
    handler.used = 80
    bench.pass_until(SPACE_SECONDS + 1, lambda: bench.run(TEST_UNIT_READY).sense[12:14] == b"\x38\x07")
    bench.close()


def test_a_command_that_waited_for_its_blocks_runs_though_others_keep_coming() -> None:
    """The ring's thread finds new commands at each look; the test is that thread."""

    class Polled(Bench):
        def attach(self) -> None:
            self.dispatcher = self.lun.attach(self.transport, LP64, self.broken.append)

    gate = Gate()
    bench = Polled(gate)
    compare = bench.submit(COMPARE_AND_WRITE_LBA_8, bytes(1024))
    bench.dispatcher.poll()
    assert gate.waiting.acquire(timeout=60)
    parked = bench.submit(WRITE_LBA_8, bytes(512))
    bench.dispatcher.poll()
    gate.opened.set()
    bench.wait(compare)
    other = bench.submit(TEST_UNIT_READY)
    bench.dispatcher.poll()
    bench.wait(other, parked)
    assert parked.status == GOOD
    bench.close()


@pytest.mark.parametrize(("late", "status"), [(Late.BUSY, BUSY), (Late.ABORT, TASK_ABORTED)])
def test_late_commands_that_the_handler_has_not_begun_end_at_once(
    late: Late, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One with the handler keeps its buffers, one waits for that thread, one for the same blocks."""

    class Single(Gate):
        threads = 1

    gate = Single()
    bench = Bench(gate, time_out=TIME_OUT, late=late)
    begun = bench.submit(COMPARE_AND_WRITE_LBA_8, bytes(1024))
    assert gate.waiting.acquire(timeout=60)
    queued = bench.submit("28 00 00000010 00 0001 00", room=512)
    parked = bench.submit(WRITE_LBA_8, bytes(512))
    bench.pass_until(TIME_OUT + 0.1, lambda: bench.reap(queued, parked))
    assert (queued.status, parked.status, begun.status) == (status, status, None)
    gate.opened.set()
    bench.wait(begun)
    assert begun.status == GOOD
    bench.close()
    caplog.clear()


def test_late_commands_bring_a_new_process(caplog: pytest.LogCaptureFixture) -> None:
    gate, asked = Gate(), threading.Event()
    bench = Bench(gate, time_out=TIME_OUT, late=Late.RESTART, restart=asked.set)
    ticket = bench.submit(READ_LBA_8, room=512)
    bench.pass_until(TIME_OUT + 0.1, asked.is_set)
    gate.opened.set()
    bench.wait(ticket)
    bench.close()
    caplog.clear()


def test_where_there_is_no_process_of_its_own_a_restart_is_refused() -> None:
    with pytest.raises(ConfigError, match="use busy or abort"):
        Bench(Gate(), time_out=TIME_OUT, late=Late.RESTART)


def test_who_hears_of_a_late_command_keeps_no_other_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """prior-art 2.1 #10: the C daemon tells of late commands under the lock of the list of all commands."""
    listening, go_on = threading.Event(), threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "is late" in record.getMessage():
                listening.set()
                assert go_on.wait(60)

    class Elsewhere(Gate):
        threads = 1  # one, and not the ring's

    gate, listener = Elsewhere(), Listener()
    bench = Bench(gate, time_out=TIME_OUT)
    bench.device.log.logger.addHandler(listener)
    stuck = bench.submit(READ_LBA_8, room=512)
    assert gate.waiting.acquire(timeout=60)
    watch = threading.Thread(target=bench.pass_by, args=(TIME_OUT + 0.1,))
    watch.start()
    assert listening.wait(60)
    assert bench.run(TEST_UNIT_READY).status == GOOD
    go_on.set()
    watch.join()
    gate.opened.set()
    bench.wait(stuck)
    bench.device.log.logger.removeHandler(listener)
    bench.close()
    caplog.clear()


def test_a_storage_that_holds_up_the_ring_is_worked_around(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    bench = Bench(gate)
    stuck = bench.submit(READ_LBA_8, room=512)
    assert gate.waiting.acquire(timeout=60)  # on the ring's thread: it came alone
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    assert bench.run(WRITE_LBA_8, b"\x11" * 512).status == GOOD
    assert stuck.status is None
    gate.opened.set()
    bench.wait(stuck)
    assert bench.run(READ_LBA_8, room=512).data == b"\x11" * 512
    bench.close()
    caplog.clear()


def test_a_logical_unit_reset_brings_the_mode_pages_back(bench: Bench) -> None:
    """SAM-5 6.3.3. The unit attention for it is LIO's to report."""
    page = bytearray(bench.run("1a 08 0a 00 ff 00", room=255).data[4:16])  # MODE SENSE(6): Control mode page
    page[4] |= 0x08  # SWP (SPC-5 7.5.10)
    assert bench.run("15 10 00 00 10 00", bytes(4) + bytes(page)).status == GOOD
    assert bench.run(WRITE_LBA_8, bytes(512)).status == CHECK_CONDITION
    bench.producer.task_management(1, [])  # ABORT TASK of nothing, tcmu-abi 1.8
    assert bench.run(WRITE_LBA_8, bytes(512)).status == CHECK_CONDITION
    bench.producer.task_management(5, [])  # LUN RESET
    assert bench.run(WRITE_LBA_8, bytes(512)).status == GOOD


def test_an_aborted_command_that_has_not_begun_never_begins() -> None:
    gate = Gate()
    bench = Bench(gate)
    large = "28 00 00000000 00 0400 00"  # 512 KiB: transfers of that size go to the threads
    reads = [bench.producer.submit(bytes.fromhex(large), b"", 524288) for _ in range(2)]
    late = bench.producer.submit(bytes.fromhex(large.replace("28", "2a", 1)), b"\x99" * 524288)
    bench.submit_event()
    assert gate.waiting.acquire(timeout=60)
    assert gate.waiting.acquire(timeout=60)  # both threads are taken, the write waits for one
    bench.producer.task_management(1, [late])  # ABORT TASK, tcmu-abi 1.8
    bench.run(TEST_UNIT_READY)  # answered after the function was read
    gate.opened.set()
    bench.wait(*reads, late)
    assert bench.run(READ_LBA_8, room=512).data == bytes(512)
    bench.close()


def test_a_refused_resize_leaves_the_unit_as_it_was() -> None:
    class Fixed(Memory):
        def resize(self, size: int) -> None:
            raise OSError(28, "No space left on device")

    bench = Bench(Fixed())
    for size in (512 << 10, 2 << 20):
        with pytest.raises(OSError, match="No space"):
            bench.lun.resize(size)
        assert bench.lun.unit.size == 1 << 20
    bench.close()


def test_a_handler_with_one_thread_is_called_by_that_one_alone() -> None:
    callers: set[int] = set()

    class Serial(Memory):
        threads = 1

        def read(self, into: Buffers, offset: int) -> None:
            callers.add(threading.get_ident())
            super().read(into, offset)

    bench = Bench(Serial())
    for _ in range(3):
        bench.run(READ_LBA_8, room=512)
        bench.wait(*(bench.submit(READ_LBA_8, room=512) for _ in range(8)))
    bench.close()
    assert len(callers) == 1


class Gated(Memory):
    """The first write waits at a gate; what it overlaps with is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.over = Latch(), threading.Event()
        self.unmapped: list[int] = []
        self.zeroed_beside_a_write = False

    def write(self, data: Buffers, offset: int) -> None:
        if not self.gate.begun.is_set():
            self.gate.hold_up()
        super().write(data, offset)
        self.over.set()

    def unmap(self, offset: int, length: int) -> None:
        self.unmapped.append(offset)
        self.gate.hold_up()

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        self.zeroed_beside_a_write = not self.over.is_set()
        self.disk[offset : offset + length] = bytes(length)


LARGE_WRITE = "2a 00 00000000 00 0400 00"  # 512 KiB from LBA 0: transfers of that size go to the threads
ELSEWHERE = "2a 00 00000600 00 0001 00"


def stuck_write(bench: Bench, handler: Gated) -> Ticket:
    """On a thread of its own, and not alone."""
    ticket = bench.producer.submit(bytes.fromhex(LARGE_WRITE), memoryview(b"\x11" * 524288))
    beside = bench.submit(READ_LBA_8, room=512)
    assert handler.gate.begun.wait(60)
    bench.wait(beside)
    return ticket


def later_write_waits_for(earlier: Ticket, bench: Bench, gated: Gated) -> None:
    """One on its blocks, while one elsewhere does not; in the end the later one's data is there."""
    later = bench.submit(WRITE_LBA_8, b"\x22" * 512)
    assert bench.run(ELSEWHERE, b"\x33" * 512).status == GOOD
    assert later.status is None
    gated.gate.open.set()
    bench.wait(earlier, later)
    assert bench.run(READ_LBA_8, room=512).data == b"\x22" * 512
    bench.close()


def test_an_aborted_write_that_has_begun_is_over_before_later_ones_on_its_blocks_begin() -> None:
    """SAM-5 7.2: after ABORT TASK nothing more comes of the task; its initiator goes on at once."""
    bench = Bench(gated := Gated())
    aborted = stuck_write(bench, gated)
    bench.producer.task_management(1, [aborted])  # ABORT TASK, tcmu-abi 1.8
    later_write_waits_for(aborted, bench, gated)


def test_a_write_the_kernel_may_have_ended_is_over_before_later_ones_on_its_blocks_begin() -> None:
    """cmd_time_out: LIO answers the initiator, which goes on; the daemon is not told (tcmu-abi 5.2)."""
    bench = Bench(gated := Gated())
    stale = stuck_write(bench, gated)
    bench.pass_by(STALE_SECONDS + 0.1)
    later_write_waits_for(stale, bench, gated)


def test_an_aborted_command_does_not_go_on_with_its_next_operation() -> None:
    bench = Bench(gated := Gated())
    # SBC-4 5.35: two descriptors of one block, at LBA 8 and LBA 16
    blocks = b"".join(lba.to_bytes(8, "big") + (1).to_bytes(4, "big") + bytes(4) for lba in (8, 16))
    aborted = bench.submit("42 00 00000000 00 0028 00", bytes.fromhex("0026002000000000") + blocks)
    assert gated.gate.begun.wait(60)
    bench.producer.task_management(1, [aborted])
    bench.run(TEST_UNIT_READY)  # answered after the function was read
    gated.gate.open.set()
    bench.wait(aborted)
    bench.close()
    assert gated.unmapped == [8 * 512]


@pytest.mark.parametrize("immediate", [False, True])
def test_a_format_waits_for_what_came_before_it(immediate: bool) -> None:
    """What an earlier command writes shall not stand on the formatted medium."""
    bench = Bench(gated := Gated())
    before = stuck_write(bench, gated)
    # SBC-4 5.4, table 43: IMMED is bit 1 of byte 1 of the parameter list, which needs FOV, bit 7
    parameters = bytes.fromhex("00820000") if immediate else b""
    format_unit = bench.submit("04 10 00 0000 00" if immediate else "04 00 00 0000 00", parameters)
    assert bench.run(TEST_UNIT_READY).status == (CHECK_CONDITION if immediate else GOOD)
    gated.gate.open.set()
    bench.wait(before, format_unit)
    bench.until(lambda: bench.run(TEST_UNIT_READY).status == GOOD)
    assert (before.status, format_unit.status) == (GOOD, GOOD)
    assert bench.run(READ_LBA_8, room=512).data == bytes(512)
    assert not gated.zeroed_beside_a_write
    bench.close()


def test_task_management_behind_a_command_that_holds_up_the_ring_is_not_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(gated := Gated())
    bench.lun.unit.mode.descriptor_sense = True
    stuck = bench.producer.submit(bytes.fromhex(WRITE_LBA_8), memoryview(b"\x11" * 512))
    bench.producer.task_management(5, [])  # LUN RESET
    bench.submit_event()
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    gated.gate.open.set()
    bench.wait(stuck)
    bench.until(lambda: not bench.lun.unit.mode.descriptor_sense)  # SAM-5 6.3.3
    bench.close()
    caplog.clear()
