"""What a command of another LUN does to the blocks of this one."""

from __future__ import annotations

import threading

import pytest

from tcmu_runner.engine.storage.background import perform_on
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import Read, Write
from tcmu_runner.scsi.sense import ScsiError

from .bench import Bench, Memory

COMPARE_AND_WRITE_LBA_8 = "89 00 0000000000000008 000000 01 00 00"  # SBC-4 5.3: one block
GOOD = 0x00  # SAM-5 table 33


class Gated(Memory):
    """Reads, or writes, wait at a gate."""

    def __init__(self, *, waits_to_read: bool) -> None:
        super().__init__()
        self.opened, self.begun = threading.Event(), threading.Event()
        self.waits_to_read = waits_to_read

    def wait(self) -> None:
        self.begun.set()
        assert self.opened.wait(60)

    def read(self, into: Buffers, offset: int) -> None:
        if self.waits_to_read:
            self.wait()
        super().read(into, offset)

    def write(self, data: Buffers, offset: int) -> None:
        if not self.waits_to_read:
            self.wait()
        super().write(data, offset)


def visitor(bench: Bench, block: bytes, lba: int = 8) -> threading.Thread:
    operation = Write(lba * 512, [memoryview(bytearray(block))])
    thread = threading.Thread(target=perform_on, args=(bench.lun.unit, operation))
    thread.start()
    return thread


def test_it_waits_for_who_has_them_to_himself() -> None:
    """SBC-4 5.3: nothing else is done to the blocks between comparing and writing."""
    bench = Bench(gated := Gated(waits_to_read=True))
    compare = bench.submit(COMPARE_AND_WRITE_LBA_8, bytes(512) + b"\x22" * 512)
    assert gated.begun.wait(60)
    visitor(bench, b"\x44" * 512, lba=9).join(60)
    assert gated.disk[9 * 512] == 0x44
    waiting = visitor(bench, b"\x33" * 512)
    waiting.join(0.05)
    assert waiting.is_alive()
    gated.opened.set()
    bench.wait(compare)
    waiting.join(60)
    bench.close()
    assert compare.status == GOOD
    assert gated.disk[8 * 512 : 9 * 512] == b"\x33" * 512


def test_who_wants_them_to_himself_waits_for_it() -> None:
    bench = Bench(gated := Gated(waits_to_read=False))
    writing = visitor(bench, b"\x33" * 512)
    assert gated.begun.wait(60)
    compare = bench.submit(COMPARE_AND_WRITE_LBA_8, b"\x33" * 512 + b"\x22" * 512)
    assert bench.run("28 00 00000010 00 0001 00", room=512).status == GOOD  # READ(10) elsewhere
    assert compare.status is None
    gated.opened.set()
    writing.join(60)
    bench.wait(compare)
    bench.close()
    assert compare.status == GOOD
    assert gated.disk[8 * 512 : 9 * 512] == b"\x22" * 512


def test_a_medium_that_is_not_ready_any_more_is_not_touched() -> None:
    bench = Bench(memory := Memory())
    bench.lun.unit.medium.power(on=False)
    for operation in (Read(0, [memoryview(bytearray(512))]), Write(0, [memoryview(bytearray(b"x" * 512))])):
        with pytest.raises(ScsiError) as refused:
            perform_on(bench.lun.unit, operation)
        # SPC-5 annex F.2: COPY ABORTED, COPY TARGET DEVICE NOT REACHABLE
        assert (refused.value.sense.key, refused.value.sense.asc, refused.value.sense.ascq) == (0xA, 0x0D, 2)
    bench.close()
    assert memory.disk[:512] == bytes(512)


def test_a_lun_that_is_not_served_any_more() -> None:
    bench = Bench(Memory())
    bench.close()
    with pytest.raises(OSError, match="not served any more"):
        perform_on(bench.lun.unit, Read(0, [memoryview(bytearray(512))]))
