"""units: sizes as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.units import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kb", 1024),
        ("64M", 67108864),
        ("1G", 1073741824),
        ("1.5GiB", 1610612736),
        (" 10 G ", 10737418240),
        ("2T", 2199023255552),
        ("1P", 1125899906842624),
        ("9223372036854775807", 9223372036854775807),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1E", "1GG", "0x10", "1,5G", ".5G", "1 2", "ten"])
def test_parse_size_says_what_it_understands(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size: write bytes or a number with K, M, G"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1073741824, "1 GiB"),
        (1181116006, "1.1 GiB"),
        (2199023255552, "2 TiB"),
        (1125899906842624, "1.0 PiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1023), st.sampled_from(["", "K", "M", "G", "T"]))
def test_whole_sizes_survive_writing_and_reading(number: int, unit: str) -> None:
    size = parse_size(f"{number}{unit}")
    assert parse_size(format_size(size).removesuffix(" bytes")) == size
