"""CRC32C on the examples of RFC 7143, A.4, in the order their bytes are sent."""

import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi.digest import _fastest, crc32c, crc32c_in_python, digest

EXAMPLES = [
    (bytes(32), "aa36918a"),
    (b"\xff" * 32, "43aba862"),
    (bytes(range(32)), "4e79dd46"),
    (bytes(range(31, -1, -1)), "5cdb3f11"),
    (  # a SCSI READ(10) command PDU
        bytes.fromhex(
            "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"
        ),
        "563a96d9",
    ),
]


@pytest.mark.parametrize(("data", "sent"), EXAMPLES)
def test_examples(data: bytes, sent: str) -> None:
    assert crc32c_in_python(data).to_bytes(4, "little").hex() == sent
    assert digest(data) == digest(data[:5], memoryview(data)[5:]) == bytes.fromhex(sent)


@given(st.binary(max_size=300), st.integers(0, 0xFFFFFFFF))
def test_whatever_is_fastest_agrees(data: bytes, before: int) -> None:
    assert crc32c(data, before) == crc32c_in_python(data, before)


def test_the_package_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("crc32c")
    package.crc32c = lambda data, crc: 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crc32c", package)
    assert _fastest()(b"", 0) == 7
    monkeypatch.setitem(sys.modules, "crc32c", None)  # as if it were not
    assert _fastest() is crc32c_in_python
