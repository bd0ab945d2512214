"""What initiators are told, over iSCSI, of a storage that fills up, and of writes that were lost."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.embedded.initiator import Initiator, Result
from tcmu_runner.engine import lun
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.handler.registry import Registry

SIZE = 8 << 20
MIB = 1 << 20
PATIENCE = 30.0
TEST_UNIT_READY = bytes(6)
SYNCHRONIZE_CACHE = b"\x35" + bytes(9)
# SPC-5 table 51, annex F.2: key, ASC, ASCQ
THRESHOLD_REACHED = (0x6, 0x38, 0x07)
SPACE_ALLOCATION_FAILED = (0x7, 0x27, 0x07)
WRITE_ERROR = (0x3, 0x0C, 0x00)


LogIn = Callable[[Server], list[Initiator]]


@pytest.fixture
def log_in() -> Iterator[LogIn]:
    """Two initiators, whose sessions end with the test."""
    with ExitStack() as stack:

        def sessions(server: Server) -> list[Initiator]:
            at = server.portals[0]
            made = [Initiator(at.host, at.port, isid=b"\x80\0\0\0\0" + bytes([number])) for number in (1, 2)]
            for session in made:
                stack.enter_context(session).login(server.target.name)
            return made

        yield sessions


def sense_of(result: Result) -> tuple[int, int, int] | None:
    """Fixed format (SPC-5 4.4.3)."""
    return (result.sense[2] & 0xF, result.sense[12], result.sense[13]) if result.status else None


def write(session: Initiator, mebibyte: int, data: bytes) -> Result:
    first, count = mebibyte * MIB // 512, len(data) // 512
    return session.command(
        b"\x2a\0" + first.to_bytes(4, "big") + b"\0" + count.to_bytes(2, "big") + b"\0", data
    )


def read(session: Initiator, mebibyte: int, length: int = 4096) -> bytes:
    cdb = struct.pack(">BxIxHx", 0x28, mebibyte * MIB // 512, length // 512)
    return session.command(cdb, data_in_length=length).data


@pytest.fixture
def narrow(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Room for one MiB; initiators are told when three quarters are taken."""
    monkeypatch.setattr(lun, "SPACE_SECONDS", 0.0)
    overrides = Overrides(limits={"soft_threshold": 75})
    with serve(Disk("narrow/", SIZE, overrides=overrides), registry=registry) as server:
        yield server


def test_a_storage_that_fills_up(narrow: Server, log_in: LogIn, caplog: pytest.LogCaptureFixture) -> None:
    """Every initiator hears of the threshold once. A write that finds no room fails; nothing else does."""
    sessions = log_in(narrow)
    assert sense_of(write(sessions[0], 0, b"a" * (MIB // 2))) is None
    assert sense_of(sessions[1].command(TEST_UNIT_READY)) is None
    assert sense_of(write(sessions[0], 1, b"b" * (MIB // 4))) is None
    for session in sessions:
        assert next_attention(session) == THRESHOLD_REACHED
        assert sense_of(session.command(TEST_UNIT_READY)) is None
    assert sense_of(write(sessions[0], 2, b"c" * (MIB // 2))) == SPACE_ALLOCATION_FAILED
    assert "no room is left" in caplog.text
    caplog.clear()
    assert read(sessions[1], 0) == b"a" * 4096
    assert read(sessions[1], 2) == bytes(4096)
    block, count = (0).to_bytes(8, "big"), (MIB // 2 // 512).to_bytes(4, "big")
    unmap = bytes.fromhex("0016001000000000") + block + count + bytes(4)
    assert sense_of(sessions[1].command(bytes.fromhex("42000000000000001800"), unmap)) is None
    assert sense_of(write(sessions[0], 2, b"c" * (MIB // 2))) is None
    assert read(sessions[1], 2) == b"c" * 4096


def next_attention(session: Initiator) -> tuple[int, int, int] | None:
    """The LUN looks at its space now and then."""
    deadline = time.monotonic() + PATIENCE
    while (found := sense_of(session.command(TEST_UNIT_READY))) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_write_that_was_lost_later(
    registry: Registry, log_in: LogIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A deferred error (SPC-5 4.4.7) for each initiator: response code 71h, or 73h after D_SENSE was set."""
    with serve(Disk("forgetful/", SIZE), registry=registry) as server:
        sessions = log_in(server)
        assert sessions[0].command(SYNCHRONIZE_CACHE).status == 0
        for session in sessions:
            told = session.command(TEST_UNIT_READY)
            assert (told.sense[0], sense_of(told)) == (0x71, WRITE_ERROR)
            assert session.command(TEST_UNIT_READY).status == 0
        # MODE SELECT(10) of the Control page, D_SENSE being bit 2 of its byte 2
        control = bytes(8) + bytes.fromhex("0a0a041000400000ffff0000")
        assert sessions[0].command(bytes.fromhex("55100000000000001400"), control).status == 0
        assert sessions[0].command(SYNCHRONIZE_CACHE).status == 0
        told = sessions[0].command(TEST_UNIT_READY)
        assert told.sense[:4].hex() == "73030c00"
    assert "data that was written before is lost" in caplog.text
    caplog.clear()
