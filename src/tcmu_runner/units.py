"""Sizes as people write and read them: powers of 1024, as in all tools of this field."""

import re

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
LARGEST = (1 << 63) - 1  # bytes: the largest off_t of Linux
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """'1G', '1.5GiB', '4096' -> bytes. Raises ValueError with the accepted forms."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a size: write bytes or a number with K, M, G, T or P, for example 10G"
        )
    number, factor = match[1], _FACTORS[match[2].upper()]
    size = float(number) * factor
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(number) * factor if number.isdigit() else int(size)


def format_size(size: int) -> str:
    """1073741824 -> '1 GiB'; one decimal unless it is whole."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if round(value, 1) < 1024:
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"
