"""RFC 7143, 11.4.5.1, and the transfer lengths of SBC-4."""

import pytest

from tcmu_runner.embedded.residual import between, demand


@pytest.mark.parametrize(
    ("cdb", "length"),
    [
        ("080000000200", 1024),  # READ(6)
        ("080000000000", 256 * 512),  # whose 0 means 256
        ("28000000000000000300", 1536),
        ("a80000000000000000040000", 2048),
        ("88000000000000000000000000050000", 2560),
        ("2e000000000000000100", 512),  # WRITE AND VERIFY(10)
        ("9c000000000000000008000000030000", 1536),  # WRITE ATOMIC(16)
        ("120000002400", None),  # INQUIRY
        ("35000000000000000100", None),  # SYNCHRONIZE CACHE moves nothing
    ],
)
def test_demand(cdb: str, length: int | None) -> None:
    assert demand(bytes.fromhex(cdb), 512) == length


@pytest.mark.parametrize(
    ("expected", "moved", "told"),
    [
        (512, 512, (0, 0)),
        (512, 100, (0x02, 412)),
        (100, 512, (0x04, 412)),
        (
            0,
            1 << 32,
            (0x04, 0xFFFFFFFF),
        ),  # READ(12) of 800000h blocks, with an initiator that expects nothing
    ],
)
def test_between(expected: int, moved: int, told: tuple[int, int]) -> None:
    assert between(expected, moved) == told
