"""Whatever an initiator sends ends in answers or a closed connection: no traceback, no hang, no leak.

The other side is the real connection with a transport that keeps what is written; no socket, no thread. What
earlier commands have left in the ring's data area is a pattern that must come up nowhere: not in what the
initiator gets, and not on the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scsi.test_fuzz import PLAUSIBLE_CDBS, takes_data

from embedded import wire
from embedded.wire import Wire, feed
from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.embedded.connection import Connection
from tcmu_runner.embedded.local import RING_SIZE
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.iscsi import pdu, requests
from tcmu_runner.iscsi.pdu import DATA_LENGTH, Opcode
from tcmu_runner.scsi.medium import Medium
from tcmu_runner.scsi.reservations import Reservations

SIZE = POISONED = 1 << 20
STALE = bytes.fromhex("dead5aa7")
EMPTY, POISON = bytes(SIZE), STALE * (POISONED // len(STALE))


class Target:
    """A server whose loop is this test's, with one connection at a time."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.lun = server.target.luns[0]
        handler = self.lun.lun.stack.handler
        assert isinstance(handler, RamHandler)
        self.disk = handler.view

    def renew(self) -> None:
        """Unit and disk are as at their start; the data area is full of what earlier commands left there."""
        self.disk[:SIZE] = EMPTY
        unit = self.lun.unit
        unit.reset()
        unit.medium, unit.reservations = Medium(), Reservations()
        self.lun.area()[RING_SIZE : RING_SIZE + POISONED] = POISON

    def converse(self, *pieces: bytes) -> tuple[bytes, Connection, Wire]:
        self.renew()
        connection, transport = self.server.portals[0].connection(), Wire()

        async def talk() -> None:
            connection.connection_made(transport)
            for piece in pieces:
                feed(connection, piece)

        self.loop.run_until_complete(talk())
        return bytes(transport.written), connection, transport

    def hang_up(self, connection: Connection) -> None:
        async def lose() -> None:
            connection.connection_lost(None)

        self.loop.run_until_complete(lose())


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    loop = asyncio.new_event_loop()
    server = serve(Disk("ram/", SIZE))
    server.begin_on(loop)
    yield Target(server, loop)
    server.stop()
    loop.close()


def login(target: Target, **keys: str) -> bytes:
    return wire.login(target.server.target.name, **keys)


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Refused logins are told as warnings; an error would be ours."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()


def check(target: Target, connection: Connection, written: bytes) -> None:
    """All that was written are PDUs of a target, without anything stale; no task hangs but those that wait
    for data; and when the connection goes, everything goes."""
    assert STALE not in written
    content = bytes(target.disk[:SIZE])
    assert content == EMPTY or STALE not in content  # to compare is faster than to search
    for session in target.server.target.sessions.values():
        waiting = [command.gathering for command in session.commands.values()]
        assert all(gathering is not None and not gathering.complete for gathering in waiting)
    agreed = connection.machine.framer
    if not agreed.header_digest and not agreed.data_digest:  # else the login's PDUs have none, later ones do
        at = 0
        while at < len(written):
            header = written[at : at + 48]
            found = pdu.decode(header)
            assert found.opcode >= Opcode.NOP_IN
            length = found.lengths & DATA_LENGTH
            at += 48 + length + pdu.padding(length)
        assert at == len(written)
    target.hang_up(connection)
    assert not target.server.target.sessions
    assert not target.server.portals[0].connections


READ, WRITE, INQUIRY = "28000000000000000100", "2a000000000000000100", "12000000ff00"
COMMON = [bytes.fromhex(cdb) for cdb in (READ, WRITE, INQUIRY)]


@given(st.lists(st.binary(max_size=300), max_size=4))
@settings(max_examples=200)
def test_any_bytes_before_the_login(target: Target, pieces: list[bytes]) -> None:
    written, connection, _ = target.converse(*pieces)
    check(target, connection, written)


def any_request(
    noise: bytes, opcode: int, words: int, ahs: bytes, data: bytes,
    no_lun: bool, tag: int, expected: int | None, number: int, cdb: bytes,
) -> bytes:  # fmt: skip
    """A PDU with noise in all other fields. words: of 4 bytes, what of `ahs` is sent. expected: as many bytes
    of data are, or as many as the noise says."""
    header = bytearray(noise)
    header[0], header[4], header[5:8] = opcode, words, len(data).to_bytes(3, "big")
    if no_lun:
        header[8:16] = bytes(8)
    header[16:20] = tag.to_bytes(4, "big")
    if expected is not None:
        header[20:24] = expected.to_bytes(4, "big")
    header[24:28] = number.to_bytes(4, "big")
    header[32 : 32 + len(cdb[:16])] = cdb[:16]
    return bytes(header) + ahs[: words * 4] + data + bytes(-len(data) & 3)


OPCODES = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10]
ANY_REQUESTS = st.builds(
    any_request,
    st.binary(min_size=48, max_size=48),
    st.sampled_from([opcode | immediate for immediate in (0, 0x40) for opcode in OPCODES]),
    st.sampled_from([0, 0, 0, 1, 8]),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=64),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([None, None, None, None, 0, 512, 4096, 0xFFFFFFFF]),
    st.integers(1, 6),
    st.sampled_from([*COMMON, b"\xa0", b""]) | PLAUSIBLE_CDBS,
)
"""Any PDU: of a known opcode mostly, plausible numbers often, and data as long as it says or not."""


KEYS = st.sampled_from(
    [{}, {"InitialR2T": "No"}, {"ImmediateData": "No"}, {"MaxRecvDataSegmentLength": "512"}]
)


@given(KEYS, st.lists(ANY_REQUESTS, max_size=8))
@settings(max_examples=400)
def test_any_requests_after_the_login(target: Target, keys: dict[str, str], sent: list[bytes]) -> None:
    written, connection, _ = target.converse(login(target, **keys), b"".join(sent))
    check(target, connection, written)


class Sent(NamedTuple):
    """A command. ways: whether it has the flag of its direction, and that of the other one. answer: the data
    that is sent when it is a WRITE, with its flags, its DataSN and its offset."""

    cdb: bytes
    expected: int
    data: bytes
    ways: tuple[bool, bool]
    lun: bytes
    answer: tuple[bytes, int, int, int] | None

    def pdus(self, number: int) -> Iterator[bytes]:
        """number: the command's, and its tag."""
        cdb, out = self.cdb[:16], takes_data(self.cdb[:16])
        data = self.data[: self.expected] if out else b""
        right, wrong = (requests.WRITE, requests.READ) if out else (requests.READ, requests.WRITE)
        flags = pdu.FINAL | self.ways[0] * right | self.ways[1] * wrong
        command = requests.ScsiCommand(
            Opcode.SCSI_COMMAND, flags, len(data), self.lun, number, self.expected, number, 0,
            cdb.ljust(16, b"\0"),
        )  # fmt: skip
        yield pdu.encode(command) + data + bytes(-len(data) & 3)
        if out and self.answer:
            content, final, data_number, offset = self.answer
            header = requests.DataOut(
                Opcode.DATA_OUT, final, len(content), bytes(8), number, data_number, 0, 0, offset
            )
            yield pdu.encode(header) + content


SENT = st.builds(
    Sent,
    st.sampled_from(COMMON) | PLAUSIBLE_CDBS,
    st.sampled_from([0, 4, 36, 512, 1024, 4096, 70000]),
    st.binary(max_size=600),
    st.sampled_from([(True, False), (True, False), (True, False), (True, True), (False, True)]),
    st.sampled_from([bytes(8), bytes(8), bytes(8), b"\0\1" + bytes(6)]),
    st.none()
    | st.tuples(
        st.sampled_from([b"", b"x" * 512, b"y" * 4096]),
        st.sampled_from([0, pdu.FINAL]),
        st.integers(1, 4),
        st.sampled_from([0, 0, 512]),
    ),
)
BREAKS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 4143), st.integers(0, 255)), max_size=2)


def conversation(commands: list[Sent], breaks: list[tuple[int, int, int]]) -> list[bytes]:
    """Commands whose numbers, tags and directions are right, so that most get as far as their unit; some of
    the data that is asked for; and now and then a byte is another one."""
    sent = [part for number, command in enumerate(commands, 1) for part in command.pdus(number)]
    for which, at, value in breaks:
        broken = bytearray(sent[which % len(sent)])
        broken[at % len(broken)] = value
        sent[which % len(sent)] = bytes(broken)
    return sent


CONVERSATIONS = st.builds(conversation, st.lists(SENT, min_size=1, max_size=8), BREAKS)


@given(KEYS, CONVERSATIONS)
@settings(max_examples=600)
def test_any_commands_to_a_unit(target: Target, keys: dict[str, str], sent: list[bytes]) -> None:
    written, connection, _ = target.converse(login(target, **keys), b"".join(sent))
    check(target, connection, written)


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=200)
def test_any_bytes_after_the_login(target: Target, pieces: list[bytes]) -> None:
    written, connection, _ = target.converse(login(target), *pieces)
    check(target, connection, written)


@given(st.integers(1, 400), st.binary(min_size=1, max_size=8))
def test_a_broken_digest(target: Target, at: int, change: bytes) -> None:
    """A header that cannot be believed closes the connection (7.7)."""
    command = pdu.encode(requests.ScsiCommand(1, 0x81, 0, bytes(8), 1, 0, 1, 0, bytes(16)))
    stream = bytearray(command + bytes(4)) * 9
    stream[at % len(stream) : at % len(stream) + len(change)] = change
    written, connection, transport = target.converse(
        login(target, HeaderDigest="CRC32C"), bytes(stream), bytes(300000)
    )
    assert transport.closed
    check(target, connection, written)


def test_data_longer_than_we_take(target: Target) -> None:
    header = bytearray(pdu.encode(requests.NopOut(0x40, 0x80, DATA_LENGTH, bytes(8), 1, 0xFFFFFFFF, 1, 0)))
    _, connection, transport = target.converse(login(target), bytes(header))
    assert transport.closed
    target.hang_up(connection)


def test_a_slow_reader_costs_no_memory(target: Target) -> None:
    """While nothing is read of what was sent, no further command goes to its unit."""
    sent = [login(target)]
    read = bytes.fromhex("28000000000000080000")  # 2048 blocks, the whole disk
    for number in range(1, 121):
        sent.append(
            pdu.encode(
                requests.ScsiCommand(1, 0xC1, 0, bytes(8), number, 1 << 20, number, 0, read + bytes(6))
            )
        )
    connection, transport = target.server.portals[0].connection(), Wire()
    connection.pause_writing()

    async def talk() -> None:
        connection.connection_made(transport)
        feed(connection, b"".join(sent))
        assert len(transport.written) < 1 << 20
        connection.resume_writing()

    target.loop.run_until_complete(talk())
    assert len(transport.written) > 120 << 20
    target.hang_up(connection)
