"""How far a reader goes who follows a command or a PDU: the files it enters, and the moves between them.

A call climbs when the module that it enters depends on the caller's: a callback, which no import announces.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest
from tree import SOURCE, modules

from tcmu_runner.embedded import Disk, serve
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iscsi.pdu import NO_TAG, encode
from tcmu_runner.iscsi.requests import DataOut, Logout, NopOut, ScsiCommand, TaskManagementRequest
from tcmu_runner.ring.layout import LP64

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from embedded.wire import Wire, feed, login
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


def way(cdb: str, data_out: bytes = b"", room: int = 0) -> list[str]:
    """The files that a command on a LUN that has served one before enters, from ring to handler and back."""
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
    return [name for name, _ in groupby(entered)]


def at_most(way: list[str], files: int, moves: int) -> None:
    way_out = "call fewer modules, or join those that know the same"
    assert len(set(way)) <= files, (
        f"enters {len(set(way))} files, {files} before: {way_out}: {sorted(set(way))}"
    )
    assert len(way) <= moves + 1, f"makes {len(way) - 1} moves, {moves} before: {way_out}: {way}"


def test_a_plain_read_is_short() -> None:
    at_most(way(READ_10, room=512), files=8, moves=10)


def test_a_compare_and_write_is_short() -> None:
    at_most(way(COMPARE_AND_WRITE, data_out=bytes(1024)), files=14, moves=25)


# An iSCSI PDU, from the bytes on the socket to those of the answer

Call = tuple[str, str]  # from a module to another
PROTOCOL = ("embedded/", "iscsi/")
WRITE_10 = "2a 00 00000008 00 0001 00"  # SBC-4 5.40: one block at LBA 8
PDUS = {
    "a READ": encode(ScsiCommand(1, 0xC1, 0, bytes(8), 1, 512, 1, 0, bytes.fromhex(READ_10) + bytes(6))),
    "a WRITE": encode(ScsiCommand(1, 0xA1, 0, bytes(8), 2, 512, 2, 0, bytes.fromhex(WRITE_10) + bytes(6))),
    "its Data-Out": encode(DataOut(5, 0x80, 512, bytes(8), 2, 1, 0, 0, 0)) + bytes(512),
    "a ping": encode(NopOut(0x40, 0x80, 0, bytes(8), 3, NO_TAG, 3, 0)),
    "ABORT TASK SET": encode(TaskManagementRequest(0x42, 0x82, 0, bytes(8), 4, NO_TAG, 3, 0, 0, 0)),
    "a logout": encode(Logout(0x46, 0x80, 0, 5, 0, 3, 0)),
}


@contextmanager
def calls_followed() -> Iterator[list[Call]]:
    """The calls from module to module in the block, in their order; "" is what is not ours."""
    found: list[Call] = []
    stack: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            name = str(path.relative_to(SOURCE)) if path.is_relative_to(SOURCE) else ""
            if name and (not stack or stack[-1] != name):
                found.append((next((each for each in reversed(stack) if each), ""), name))
            stack.append(name)
        elif event == "return" and stack:
            stack.pop()

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Of each module of PROTOCOL those that it imports, itself or through others; not for types alone."""
    found = {each.name: set(imports(each.tree)) for each in modules() if each.name.startswith(PROTOCOL)}
    for through, further in found.items():
        for names in found.values():
            if through in names:
                names.update(further)
    return found


def imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tcmu_runner."):
        path = node.module.replace(".", "/").removeprefix("tcmu_runner/")
        yield from (f"{path}.py", *(f"{path}/{each.name}.py" for each in node.names))
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


@pytest.fixture(scope="module")
def pdu_calls() -> dict[str, list[Call]]:
    """The calls in embedded/ and iscsi/ for each of PDUS, on one connection."""
    loop = asyncio.new_event_loop()
    server = serve(Disk("ram/", SIZE))
    server.begin_on(loop)
    found: dict[str, list[Call]] = {}

    async def converse() -> None:
        connection, wire = server.portals[0].connection(), Wire()
        connection.connection_made(wire)
        feed(connection, login(server.target.name, ImmediateData="No"))
        for name, pdu in PDUS.items():
            wire.written.clear()
            with calls_followed() as calls:
                feed(connection, pdu)
            assert wire.written
            found[name] = [call for call in calls if call[1].startswith(PROTOCOL)]
        assert wire.closed
        connection.connection_lost(None)

    loop.run_until_complete(converse())
    server.stop()
    loop.close()
    return found


@pytest.mark.parametrize("name", PDUS)
def test_a_pdu_calls_down(pdu_calls: dict[str, list[Call]], imported: dict[str, set[str]], name: str) -> None:
    """Connections call sessions and units, and those the protocol; what has ended is returned. A task
    management function goes on when the last of its commands has ended."""
    climbs = [(caller, entered) for caller, entered in pdu_calls[name] if caller in imported[entered]]
    after_the_last = [("embedded/aborting.py", "embedded/management.py")]
    allowed = after_the_last if name == "ABORT TASK SET" else []
    assert climbs == allowed, f"return what the caller needs, instead of calling it back: {climbs}"


@pytest.mark.parametrize(("name", "files", "moves"), [("a READ", 14, 35), ("its Data-Out", 15, 38)])
def test_the_way_of_a_pdu_is_not_longer_than_it_was(
    pdu_calls: dict[str, list[Call]], name: str, files: int, moves: int
) -> None:
    """moves: into another file of embedded/ and iscsi/."""
    entered = [each for _, each in pdu_calls[name]]
    at_most(entered, files, moves - 1)
    assert entered.count("embedded/connection.py") == 1, f"a Connection is called twice: {entered}"
