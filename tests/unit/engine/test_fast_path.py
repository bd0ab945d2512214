"""The fast path of plain READs and WRITEs, told from the general one only by what it must not change."""

import threading
from collections.abc import Callable

import pytest
from support.clock import ManualClock

from tcmu_runner import iov
from tcmu_runner.engine.serve.dispatcher import RELIEF_SECONDS
from tcmu_runner.engine.serve.fast_path import AT_ONCE
from tcmu_runner.handler.config import Late
from tcmu_runner.iov import Buffers
from tcmu_runner.ring.producer import Ticket
from tcmu_runner.scsi.profile import Limits

from .bench import Bench, Latch, Memory

GOOD, CHECK_CONDITION, TASK_ABORTED = 0x00, 0x02, 0x40  # SAM-5 table 33
COMPARE_AND_WRITE = "89 00 0000000000000008 000000 01 00 00"  # SBC-4 5.3: one block at LBA 8


def read(lba: int, blocks: int = 1) -> str:
    return f"28 00 {lba:08x} 00 {blocks:04x} 00"


def write(lba: int, blocks: int = 1) -> str:
    return f"2a 00 {lba:08x} 00 {blocks:04x} 00"


def post(bench: Bench, cdb: str, data: bytes = b"", room: int = 0) -> Ticket:
    """On the ring, but without an event: the batch begins with the event of the last."""
    return bench.producer.submit(bytes.fromhex(cdb), memoryview(data), room)


@pytest.mark.parametrize("threads", [0, 3])
def test_a_batch_of_all_kinds_is_done_in_order(threads: int) -> None:
    class Disk(Memory):
        pass

    Disk.threads = threads
    bench = Bench(Disk())
    tickets = [post(bench, write(8), b"\x01" * 512), post(bench, read(8), room=512)]
    tickets += [post(bench, "25 00 00000000 00 0000 00", room=8)]  # READ CAPACITY(10)
    tickets += [post(bench, write(8), b"\x02" * 512), post(bench, read(8), room=512)]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert [ticket.status for ticket in tickets] == [GOOD] * 5
    assert bytes(tickets[1].data) == b"\x01" * 512
    assert bytes(tickets[4].data) == b"\x02" * 512


def test_a_failure_is_its_command_s_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Memory):
        def read(self, into: Buffers, offset: int) -> None:
            if offset <= 4096 < offset + iov.length(into):
                raise OSError(5, "Input/output error")
            super().read(into, offset)

    bench = Bench(Bad())
    tickets = [post(bench, read(lba), room=512) for lba in (7, 8, 9)]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert [ticket.status for ticket in tickets] == [GOOD, CHECK_CONDITION, GOOD]
    assert (tickets[1].sense[2], tickets[1].sense[12]) == (0x03, 0x11)  # MEDIUM ERROR, UNRECOVERED READ ERROR
    assert "read of command" in caplog.text
    caplog.clear()


def test_what_comes_behind_a_command_that_changes_the_unit_sees_the_change() -> None:
    bench = Bench(Memory())
    tickets = [
        post(bench, read(8), room=512),
        post(bench, "1b 00 00 00 00 00"),
        post(bench, read(8), room=512),
    ]
    bench.submit_event()  # START STOP UNIT, stop
    bench.wait(*tickets)
    bench.close()
    assert [ticket.status for ticket in tickets] == [GOOD, GOOD, CHECK_CONDITION]
    assert tickets[2].sense[2] == 0x02  # NOT READY


def test_every_command_is_counted() -> None:
    bench = Bench(Memory())
    tickets = [post(bench, read(lba), room=512) for lba in range(11)]
    tickets += [post(bench, write(lba, 2), bytes(1024)) for lba in range(3)]
    bench.submit_event()
    bench.wait(*tickets)
    opcodes = bench.lun.statistics.snapshot().opcodes
    bench.close()
    assert {(one.opcode, one.count, one.bytes) for one in opcodes} == {
        (0x28, 11, 11 * 512),
        (0x2A, 3, 3 * 1024),
    }


class SlowWrites(Memory):
    """Its first write is held up. pause: called by each write."""

    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__()
        self.gate = Latch()
        self._pause = pause

    def write(self, data: Buffers, offset: int) -> None:
        if not self.gate.begun.is_set():
            self.gate.hold_up()
        self._pause()
        super().write(data, offset)


def test_a_write_that_holds_up_the_ring_keeps_its_blocks_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    """SBC-4 5.3: COMPARE AND WRITE does not overlap with any other command on its blocks."""

    slow = SlowWrites(pause=lambda: None)
    bench = Bench(slow)
    stuck = bench.submit(write(8), b"\x11" * 512)
    assert slow.gate.begun.wait(60)
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    compare = bench.submit(COMPARE_AND_WRITE, b"\x11" * 512 + b"\x22" * 512)
    assert bench.run(read(9), room=512).status == GOOD
    assert not bench.reap(compare)
    slow.gate.open.set()
    bench.wait(stuck, compare)
    after = bench.run(read(8), room=512)
    bench.close()
    assert (stuck.status, compare.status, bytes(after.data)) == (GOOD, GOOD, b"\x22" * 512)
    caplog.clear()


class Calls(Memory):
    """Notes each call: what, where, how many bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int, int]] = []

    def read(self, into: Buffers, offset: int) -> None:
        self.calls.append(("read", offset, iov.length(into)))
        super().read(into, offset)

    def write(self, data: Buffers, offset: int) -> None:
        self.calls.append(("write", offset, iov.length(data)))
        super().write(data, offset)


def test_where_the_storage_waits_the_rest_of_a_batch_goes_to_other_threads() -> None:
    """Four reads meet: more than the ring's thread would ever begin."""

    class Meeting(Memory):
        threads = 5

        def __init__(self) -> None:
            super().__init__()
            self.together = threading.Barrier(4, timeout=60)

        def read(self, into: Buffers, offset: int) -> None:
            if offset < 64 << 10:
                clock.sleep(0.01)
            else:
                self.together.wait()
            super().read(into, offset)

    clock = ManualClock()
    bench = Bench(Meeting(), clock=clock)
    for lba in range(0, 64, 2):  # until it has been seen waiting, and is left alone
        bench.run(read(lba), room=512)
    tickets = [post(bench, read(lba), room=512) for lba in range(0, 4 * AT_ONCE, 2)]
    tickets += [post(bench, read(lba), room=512) for lba in range(256, 264, 2)]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert {ticket.status for ticket in tickets} == {GOOD}


def test_commands_on_adjacent_blocks_are_one_call() -> None:
    calls = Calls()
    bench = Bench(calls)
    tickets = [post(bench, write(lba), bytes([lba]) * 512) for lba in (8, 9, 10, 12)]
    tickets += [post(bench, read(13), room=512), post(bench, read(8, 3), room=1536)]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert [ticket.status for ticket in tickets] == [GOOD] * 6
    assert bytes(tickets[5].data) == b"\x08" * 512 + b"\x09" * 512 + b"\x0a" * 512
    assert calls.calls == [
        ("write", 4096, 1536), ("write", 6144, 512), ("read", 6656, 512), ("read", 4096, 1536),
    ]  # fmt: skip


def test_one_call_is_not_for_more_commands_or_bytes_than_the_ring_s_thread_may_take_at_once() -> None:
    calls = Calls()
    bench = Bench(calls)
    tickets = [post(bench, read(lba), room=512) for lba in range(AT_ONCE + 1)]
    tickets += [post(bench, read(lba, 384), room=384 * 512) for lba in (512, 896)]
    bench.submit_event()
    bench.wait(*tickets)
    bench.close()
    assert calls.calls == [
        ("read", 0, AT_ONCE * 512), ("read", AT_ONCE * 512, 512),
        ("read", 262144, 196608), ("read", 458752, 196608),
    ]  # fmt: skip


def test_a_failure_is_told_in_the_format_that_the_unit_is_set_to(caplog: pytest.LogCaptureFixture) -> None:
    """SPC-5 7.5.10, D_SENSE; 4.4.2: response code 72h."""

    class Bad(Memory):
        def read(self, into: Buffers, offset: int) -> None:
            raise OSError(5, "Input/output error")

    bench = Bench(Bad())
    bench.lun.unit.mode.descriptor_sense = True
    failed = bench.run(read(8), room=512)
    bench.close()
    assert (failed.status, failed.sense[0]) == (CHECK_CONDITION, 0x72)
    caplog.clear()


def test_late_commands_of_a_batch_whose_storage_hangs_never_reach_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Slow(Calls):
        def __init__(self) -> None:
            super().__init__()
            self.gate = Latch()

        def read(self, into: Buffers, offset: int) -> None:
            self.gate.hold_up()
            super().read(into, offset)

    slow = Slow()
    bench = Bench(slow, time_out=1, late=Late.ABORT)
    stuck = post(bench, read(8), room=512)
    late = [post(bench, write(lba), b"\x01" * 512) for lba in (64, 65, 100)]
    bench.submit_event()
    assert slow.gate.begun.wait(60)
    bench.pass_until(1.1, lambda: bench.reap(*late))
    slow.gate.open.set()
    bench.wait(stuck)
    bench.close()
    assert [ticket.status for ticket in (stuck, *late)] == [GOOD, TASK_ABORTED, TASK_ABORTED, TASK_ABORTED]
    assert slow.calls == [("read", 4096, 512)]
    caplog.clear()


def test_what_is_longer_than_one_may_ask_for_is_refused() -> None:
    """SBC-4 6.6.4: above MAXIMUM TRANSFER LENGTH a command ends in 5/24/00, also the plainest."""
    bench = Bench(Memory(), limits=Limits(max_transfer=8))
    allowed, refused = post(bench, read(8, 8), room=4096), post(bench, read(8, 9), room=4608)
    bench.submit_event()
    bench.wait(allowed, refused)
    bench.close()
    assert (allowed.status, refused.status) == (GOOD, CHECK_CONDITION)
    assert (refused.sense[2], refused.sense[12:14].hex()) == (0x05, "2400")


def test_overlapping_writes_that_go_back_behind_a_stuck_one_do_not_wait_for_each_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All of them are late; the storage wakes up, and is slow: the last two go the general way after all."""

    clock = ManualClock()
    slow = SlowWrites(pause=lambda: clock.sleep(0.002))
    bench = Bench(slow, clock=clock)
    tickets = [post(bench, write(8), bytes([count]) * 512) for count in range(60)]
    bench.submit_event()
    assert slow.gate.begun.wait(60)
    bench.pass_until(RELIEF_SECONDS + 0.1, lambda: "has blocked the ring thread" in caplog.text)
    slow.gate.open.set()
    bench.wait(*tickets)
    bench.close()
    assert {ticket.status for ticket in tickets} == {GOOD}
    caplog.clear()
