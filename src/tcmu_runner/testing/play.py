"""Conversations with a unit: a CDB in, the operations it asks for and their answers, the ending out.

    play(unit, "28 00 00000008 00 0001 00", (Read(4096, space(512)), b"x" * 512), room=512)

Each step is (expected operation or its type, answer). The answer is what the storage does: bytes fill a
Read, a list of extents fills an Extents, a Space answers MeasureSpace, a number is where a CompareAndWrite
found another byte, an exception is raised at the `yield`, None is plain success. A command that asks for
more, for less or for something else fails the test.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from tcmu_runner import iov
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import (
    CompareAndWrite,
    Extent,
    Extents,
    MeasureSpace,
    Operation,
    Plan,
    Read,
    Space,
    Write,
)
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError, Sense
from tcmu_runner.scsi.unit import Capabilities, Identity, Limits, Unit

STALE = 0xA5  # what an earlier command left in the buffers; it must never come back
EVERYTHING = Capabilities(
    write=True, flush=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=True, atomic=True
)
BLOCKS = 1024

Answer = bytes | Sequence[Extent] | Space | Exception | int | None
Step = tuple[Operation | type[Operation], Answer]


@dataclass
class Ending:
    """status: SAM status byte. sense: of a CHECK CONDITION. data: the bytes the initiator gets.
    error: an OSError that the storage raised and the command did not turn into anything else."""

    status: int
    data: bytes = b""
    sense: Sense | None = None
    error: OSError | None = None
    command: Command | None = None

    @property
    def triple(self) -> str:
        """Sense key, ASC, ASCQ as people write them: '5/24/00'."""
        assert self.sense is not None, f"the command ended in status {self.status:#x} without sense"
        return f"{self.sense.key:X}/{self.sense.asc:02X}/{self.sense.ascq:02X}"


def disk(
    capabilities: Capabilities = EVERYTHING, *, block_size: int = 512, blocks: int = BLOCKS,
    limits: Limits | None = None, identity: Identity | None = None,
) -> Unit:  # fmt: skip
    told = identity or Identity(serial="4b9ad7ab-b6f1-4b0f-b3a0-3a0c0c1b4a7e")
    return Unit(block_size, blocks * block_size, DISK, capabilities, lambda: told, limits or Limits())


def space(size: int) -> Buffers:
    """Buffers of that length, for an expected Read."""
    return [memoryview(bytearray(size))]


def bytes_of(data: bytes) -> Buffers:
    """Buffers with that content, for an expected Write."""
    return [memoryview(bytearray(data))]


def cdb_of(text: str | bytes) -> bytes:
    return bytes.fromhex(text) if isinstance(text, str) else text


def pieces_of(content: bytes, sizes: Sequence[int]) -> Buffers:
    """The content as a scatter list of those sizes, the rest as one last piece."""
    found: Buffers = []
    at = 0
    for size in sizes:
        found.append(memoryview(bytearray(content[at : at + size])))
        at += size
    if at < len(content):
        found.append(memoryview(bytearray(content[at:])))
    return found


def play(
    unit: Unit, cdb: str | bytes, *script: Step, out: bytes = b"", room: int = 0,
    pieces: Sequence[int] = (), nexus: Nexus | None = None,
) -> Ending:  # fmt: skip
    """Runs one command. out: data-out. room: length of the data-in buffer. pieces: how the buffer is cut."""
    content = out or bytes((STALE,)) * room
    command = Command(cdb_of(cdb), pieces_of(content, pieces), nexus or Nexus())
    outcome = _run(unit, command, script)
    outcome.command = command
    if outcome.status == 0 and not out:
        outcome.data = iov.gather(command.data)[: command.returned or 0]
    return outcome


def _run(unit: Unit, command: Command, script: Sequence[Step]) -> Ending:
    left = list(script)
    try:
        _perform(unit.begin(command), left)
    except ScsiError as error:
        ending = Ending(2, sense=error.sense)
    except ScsiStatusError as error:
        ending = Ending(error.status)
    except OSError as error:
        ending = Ending(2, error=error)
    else:
        ending = Ending(0)
    assert not left, f"the command ended ({ending}) without asking for {left}"
    return ending


def _perform(plan: Plan, script: list[Step]) -> None:
    if plan is None:
        return
    if not isinstance(plan, Generator):
        _answer(plan, script)
        return
    try:
        operation = next(plan)
        while True:
            try:
                _answer(operation, script)
            except (ScsiError, ScsiStatusError, OSError) as error:
                operation = plan.throw(error)
            else:
                operation = next(plan)
    except StopIteration:
        return


def _answer(operation: Operation, script: list[Step]) -> None:
    assert script, f"unexpected {operation}"
    expected, answer = script.pop(0)
    if isinstance(expected, type):
        assert isinstance(operation, expected), f"{operation} came, {expected.__name__} was expected"
    else:
        assert shape(operation) == shape(expected)
    if isinstance(answer, Exception):
        raise answer
    if isinstance(operation, Read):
        assert isinstance(answer, bytes), "a Read that succeeds needs the bytes it reads"
        assert iov.scatter(operation.into, answer) == len(answer) == iov.length(operation.into)
    elif isinstance(operation, Extents):
        assert isinstance(answer, Sequence)
        operation.found.extend(item for item in answer if isinstance(item, Extent))
    elif isinstance(operation, CompareAndWrite):
        assert answer is None or isinstance(answer, int)
        operation.mismatch = answer
    elif isinstance(operation, MeasureSpace):
        assert isinstance(answer, Space)
        operation.found = answer
    else:
        assert answer is None


def shape(operation: Operation) -> tuple[object, ...]:
    """What must be equal in two operations: not where a Read's buffers lie, but how long they are."""
    match operation:
        case Read():
            return Read, operation.offset, iov.length(operation.into)
        case Write():
            return Write, operation.offset, iov.gather(operation.data), operation.fua
        case CompareAndWrite():
            halves = iov.gather(operation.expected), iov.gather(operation.data)
            return CompareAndWrite, operation.offset, halves, operation.fua
        case _:
            return type(operation), operation
