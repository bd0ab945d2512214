from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.filters.luks.header2 import BINARY, PRIMARY, SECONDARY, Header2, parse, size_of
from tcmu_runner.filters.luks.volume import HeaderError

HEADER = Header2(
    0x4000, 7, "6cc8ce9c-6d6b-4bb2-b8d8-a0a7a1d9a0ef", b'{"a":1}', label=b"vault".ljust(48, b"\0")
)
COPIES = HEADER.copies()


def test_two_copies_which_are_read_again() -> None:
    assert len(COPIES) == 0x8000
    for magic, offset in ((PRIMARY, 0), (SECONDARY, 0x4000)):
        copy = COPIES[offset : offset + 0x4000]
        assert size_of(copy[:BINARY], magic, offset) == 0x4000
        found = parse(copy)
        assert (found.sequence, found.uuid, found.json) == (7, HEADER.uuid, b'{"a":1}')
        assert found.label.startswith(b"vault\0")


def test_fields_are_where_the_specification_has_them() -> None:
    """On-Disk Format Specification 1.1, figure 2."""
    assert COPIES[:8] == b"LUKS\xba\xbe\0\2"
    assert COPIES[0x4000:0x4008] == b"SKUL\xba\xbe\0\2"
    assert COPIES[8:16] == (0x4000).to_bytes(8, "big")
    assert COPIES[16:24] == (7).to_bytes(8, "big")
    assert COPIES[24:30] == b"vault\0"
    assert COPIES[72:79] == b"sha256\0"
    assert COPIES[168:204] == HEADER.uuid.encode()
    assert COPIES[0x4000 + 256 : 0x4000 + 264] == (0x4000).to_bytes(8, "big")
    assert any(COPIES[448:480]) and not any(COPIES[480:512])


@given(at=st.integers(0, 0x3FFF), bit=st.integers(0, 7))
def test_any_damaged_bit_is_noticed(at: int, bit: int) -> None:
    copy = bytearray(COPIES[:0x4000])
    copy[at] ^= 1 << bit
    try:
        size_of(bytes(copy[:BINARY]), PRIMARY, 0)
        found = parse(bytes(copy))
    except HeaderError:
        return
    assert 480 <= at < 512, f"byte {at} is not covered: {found}"  # behind a checksum of 32 bytes


@given(st.binary(min_size=1, max_size=600))
def test_anything_is_understood_or_refused(junk: bytes) -> None:
    block = (junk * BINARY)[:BINARY]
    for text in (block, COPIES[:8] + block[8:], COPIES[:24] + block[24:]):
        with pytest.raises(HeaderError):
            size_of(text, PRIMARY, 0)
            parse(text)


def test_metadata_that_has_no_room_is_refused() -> None:
    with pytest.raises(HeaderError, match="no room for 12288 bytes of metadata"):
        HEADER.next(b" " * 12288).copies()
