"""How far a reader goes who follows a command: the files it enters, and the moves between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType

from tree import SOURCE

from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.handler.registry import Registry
from tcmu_runner.ring.layout import LP64

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from engine.bench import MemoryTransport

SIZE = 1 << 20
READ_10 = "28 00 00000008 00 0001 00"  # SBC-4 5.16: one block at LBA 8
COMPARE_AND_WRITE = "89 00 0000000000000008 000000 01 00 00"  # SBC-4 5.3: one block at LBA 8


@contextmanager
def followed() -> Iterator[list[str]]:
    """The modules whose functions are called in the block, in their order."""
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE):
            entered.append(str(path.relative_to(SOURCE)))

    sys.setprofile(note)
    try:
        yield entered
    finally:
        sys.setprofile(None)


def way(cdb: str, data_out: bytes = b"", room: int = 0) -> tuple[int, int]:
    """(files, moves) between ring and handler of a command on a LUN that has served one before."""
    registry = Registry()
    registry.load_entry_points()
    lun = Lun.open(Description("user_0/vol0", "ram/", SIZE), registry)
    with closing(MemoryTransport()) as ring:
        dispatcher = lun.attach(ring, LP64, lambda error: None)
        for _ in range(2):
            ticket = ring.producer.submit(bytes.fromhex(cdb), memoryview(data_out), room)
            with followed() as entered:
                dispatcher.poll()
            ring.producer.reap()
            assert ticket.status == 0
        lun.detach()
    lun.close()
    return len(set(entered)), len(list(groupby(entered))) - 1


def test_a_plain_read_is_short() -> None:
    files, moves = way(READ_10, room=512)
    assert files <= 8
    assert moves <= 12


def test_a_compare_and_write_is_not_longer_than_it_was() -> None:
    """The aim is 25 moves (docs/architecture.md)."""
    files, moves = way(COMPARE_AND_WRITE, data_out=bytes(1024))
    assert files <= 14
    assert moves <= 32
