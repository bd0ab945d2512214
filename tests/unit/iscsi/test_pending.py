"""CDBs out of headers: RFC 7143, 11.2.2, 11.3.5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi.pending import MalformedCommandError, read_cdb
from tcmu_runner.iscsi.requests import ScsiCommand


def command(cdb: str) -> ScsiCommand:
    return ScsiCommand(1, 0x80, 0, bytes(8), 1, 0, 1, 1, bytes.fromhex(cdb).ljust(16, b"\0"))


@pytest.mark.parametrize(("cdb", "length"), [("00", 6), ("28", 10), ("a8", 12), ("88", 16), ("12ff", 6)])
def test_as_long_as_its_group_says(cdb: str, length: int) -> None:
    assert read_cdb(command(cdb), b"") == (bytes.fromhex(cdb).ljust(length, b"\0"), 0)


def test_extended_cdb_and_bidirectional_length() -> None:
    """AHSLength counts the byte after the type; each segment is padded to a word."""
    first = command("7f00000000000018" + "00" * 8)
    ahs = bytes.fromhex("0011 01 00") + bytes(range(16)) + bytes.fromhex("0005 02 00 00001000")
    cdb, bidi = read_cdb(first, ahs)
    assert (cdb, bidi) == (first.cdb + bytes(range(16)), 4096)


def test_too_short() -> None:
    with pytest.raises(MalformedCommandError):
        read_cdb(command("7f00000000000018"), b"")


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=40))
def test_any_segments_make_a_cdb_or_none(cdb: bytes, ahs: bytes) -> None:
    try:
        found, bidi = read_cdb(ScsiCommand(1, 0x80, 0, bytes(8), 1, 0, 1, 1, cdb), ahs)
    except MalformedCommandError:
        return
    assert found[:1] == cdb[:1]
    assert 0 <= bidi < 1 << 32
