"""LUN numbers in eight bytes (SAM-5 4.7)."""

from __future__ import annotations

from collections.abc import Iterable

FLAT_SPACE = 0x40  # 4.7.7.4; below 256, peripheral device addressing (4.7.7.2)
LUN_MAX = 0x3FFF


def lun_number(address: bytes) -> int:
    """The number in a LUN field, -1 for an address of a form that we give nobody."""
    first = address[0]
    if any(address[2:]) or (first and first & 0xC0 != FLAT_SPACE):
        return -1
    return (first & 0x3F) << 8 | address[1]


def lun_address(number: int) -> bytes:
    """The LUN field of a number."""
    return (number if number < 256 else FLAT_SPACE << 8 | number).to_bytes(2, "big") + bytes(6)


def lun_list(numbers: Iterable[int]) -> bytes:
    """REPORT LUNS parameter data (SPC-5 6.33)."""
    entries = b"".join(map(lun_address, sorted(numbers)))
    return len(entries).to_bytes(4, "big") + bytes(4) + entries
