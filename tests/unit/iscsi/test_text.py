"""Text segments and the values in them, from RFC 7143, 6.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.text import NegotiationError, TextError


def test_parse_and_render() -> None:
    assert text.parse(b"A=1\0B=x=y\0C=\0\0\0") == {"A": "1", "B": "x=y", "C": ""}
    assert text.render([("A", "1"), ("B", "ü")]) == b"A=1\0B=\xc3\xbc\0"
    assert text.parse(b"") == {}


@pytest.mark.parametrize(
    "data", [b"A\0", b"=1\0", b"K" * 64 + b"=1\0", b"A=\xff\0", b"\xc3\xbc=1\0", b"A=1\0A=2\0"]
)
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(TextError):
        text.parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        pairs = text.parse(data)
    except TextError:
        return
    assert text.parse(text.render(pairs.items())) == pairs


@pytest.mark.parametrize(
    ("value", "meaning"), [("512", 512), ("0x200", 512), ("0X1f", 31), ("0", 0), ("0x" + "0" * 24 + "1", 1)]
)
def test_numbers(value: str, meaning: int) -> None:
    assert text.number(value, 0, 1000) == meaning


@pytest.mark.parametrize(
    "value", ["", "-1", "1001", "0x", "0512", "00", "1_0", "1e3", " 5", "5 ", "٣", "0xg", "9" * 21]
)
def test_what_is_no_number(value: str) -> None:
    with pytest.raises(NegotiationError):
        text.number(value, 0, 1000)
