"""Counting in shared memory."""

import os
import time

import pytest
from support.clock import ManualClock

from tcmu_runner.engine.observe import statistics
from tcmu_runner.engine.observe.statistics import Statistics

READ_10 = 0x28
FIXED = bytes.fromhex("70 00 03 00000000 0a 00000000 11 00 00 000000")  # SPC-5 table 48: MEDIUM ERROR 11/00
DESCRIPTOR = bytes.fromhex("72 05 24 00 000000 00")  # SPC-5 table 28: ILLEGAL REQUEST 24/00


def test_commands_are_counted_by_opcode() -> None:
    counters = Statistics()
    counters.record(READ_10, 4096, 0.000100, 0, b"")  # 100 us: less than 2^7, not less than 2^6
    counters.record(READ_10, 512, 0.000003, 0, b"")
    (opcode,) = counters.snapshot().opcodes
    assert (opcode.opcode, opcode.count, opcode.bytes, opcode.errors) == (READ_10, 2, 4608, 0)
    assert (opcode.histogram[7], opcode.histogram[2], sum(opcode.histogram)) == (1, 1, 2)
    assert opcode.microseconds == 103


def test_errors_are_told_apart_by_status_and_sense() -> None:
    counters = Statistics()
    for sense in (FIXED, FIXED, DESCRIPTOR):
        counters.record(READ_10, 0, 0, 0x02, sense)
    counters.record(READ_10, 0, 0, 0x08, b"")
    assert counters.snapshot().errors == {
        (0x02, 0x03, 0x11, 0x00): 2,
        (0x02, 0x05, 0x24, 0x00): 1,
        (0x08, 0x00, 0x00, 0x00): 1,
    }


def test_more_kinds_of_errors_than_slots_lose_no_count() -> None:
    counters = Statistics()
    for ascq in range(200):
        counters.record(READ_10, 0, 0, 0x02, bytes((0x72, 0x05, 0x24, ascq)))
    assert sum(counters.snapshot().errors.values()) == 200


def test_another_process_sees_the_same_numbers() -> None:
    descriptor = statistics.create()
    reader = Statistics(descriptor)
    child = os.fork()
    if child == 0:
        writer = Statistics(descriptor)
        writer.record(READ_10, 512, 0.001, 0, b"")
        writer.gauge(3, 1000.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    snapshot = reader.snapshot(ManualClock(1005.0))
    reader.close()
    os.close(descriptor)
    assert snapshot.opcodes[0].count == 1
    assert snapshot.under_way == 3
    assert snapshot.oldest == 5


def test_absurd_latencies_have_a_bucket() -> None:
    counters = Statistics()
    counters.record(READ_10, 0, 1e6, 0, b"")
    assert counters.snapshot().opcodes[0].histogram[-1] == 1


def test_slow_commands_are_kept_with_their_cdbs() -> None:
    counters = Statistics()
    long = bytes(range(32))
    counters.record_slow(bytes.fromhex("28000000000800000100"), 512, 1.5, 0)
    counters.record_slow(long, 0, 61.25, 2)
    snapshot = counters.snapshot()
    assert snapshot.slow_count == 2
    assert [(slow.cdb, slow.bytes, slow.seconds, slow.status) for slow in snapshot.slow] == [
        (bytes.fromhex("28000000000800000100"), 512, 1.5, 0),
        (long[:16], 0, 61.25, 2),
    ]
    assert abs(snapshot.slow[1].ended - time.time()) < 3600
    assert snapshot.errors == {}


def test_of_many_slow_commands_the_last_are_kept() -> None:
    counters = Statistics()
    for number in range(100):
        counters.record_slow(bytes([number]), 0, 2.0, 0)
    snapshot = counters.snapshot()
    assert snapshot.slow_count == 100
    assert [slow.cdb[0] for slow in snapshot.slow] == list(range(100 - statistics.SLOTS, 100))
    assert [slow.cdb[0] for slow in counters.slow(after=98)] == [98, 99]


def test_no_process_can_cut_the_memory_that_others_read() -> None:
    """They would end with SIGBUS, the supervisor first."""
    descriptor = statistics.create()
    try:
        for size in (0, 2 * statistics.SIZE):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def test_any_numbers_in_it_can_be_read() -> None:
    """The process that writes them may have been taken over."""
    counters = Statistics()
    counters._map[:] = b"\xff" * statistics.SIZE
    snapshot = counters.snapshot()
    assert snapshot.errors == {(0xFF, 0xFF, 0xFF, 0xFF): (1 << 64) - 1}
    assert len(snapshot.failure) <= statistics.FAILURE_BYTES
