"""Text from outside, as programs and people get it."""

import pytest

from tcmu_runner.printable import printable, utf8


@pytest.mark.parametrize(
    ("text", "program", "person"),
    [
        ("grün.img 😀", "grün.img 😀", "grün.img 😀"),
        (b"gr\xf6\xdfe".decode(errors="surrogateescape"), r"gr\xf6\xdfe", r"gr\xf6\xdfe"),
        ("nul\0", r"nul\x00", r"nul\x00"),
        ("\ud800", r"\ud800", r"\ud800"),  # half of a character, as JSON can say it
        ("two\nlines\x1b[2J", "two\nlines\x1b[2J", r"two\nlines\x1b[2J"),
        ("\u2028", "\u2028", r"\u2028"),  # LINE SEPARATOR
        ("\u202egnp", "\u202egnp", r"\u202egnp"),  # written from right to left by a terminal
    ],
)
def test_what_becomes_of_it(text: str, program: str, person: str) -> None:
    assert utf8(text) == program
    assert printable(text) == person
    assert printable(text).encode() and utf8(text).encode()
