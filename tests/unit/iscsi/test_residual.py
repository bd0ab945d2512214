"""RFC 7143, 11.4.5.1, and the transfer lengths of SBC-4."""

import pytest

from tcmu_runner.iscsi.residual import between, demand


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
        ("8b000000000000000008000000030000", 1536),  # ORWRITE(16)
        ("89000000000000000008000000020000", 2048),  # COMPARE AND WRITE: SBC-4 5.3, two blocks, each twice
        ("41000000000000000900", 512),  # WRITE SAME(10): SBC-4 5.52, one block
        ("93000000000000000000000000090000", 512),
        ("93010000000000000000000000090000", 0),  # NDOB: SBC-4 5.53
        ("2f000000000000000900", 0),  # VERIFY(10), BYTCHK 00b: SBC-4 5.40, no data
        ("af020000000000000003" + "0000", 1536),  # VERIFY(12), 01b: all blocks
        ("8f060000000000000000000000090000", 512),  # VERIFY(16), 11b: one block
        ("42000000000000001800", 24),  # UNMAP: SBC-4 5.39, PARAMETER LIST LENGTH
        ("151000001800", 24),  # MODE SELECT(6)
        ("5f0600000000000018" + "00", 24),  # PERSISTENT RESERVE OUT: SPC-5 6.16
        ("3b020000000000000100", 1),  # WRITE BUFFER: SPC-5 6.49
        ("041000000000", None),  # FORMAT UNIT: its list says how long it is
        ("120000002400", None),  # INQUIRY: ALLOCATION LENGTH is only a limit
        ("35000000000000000100", 0),  # SYNCHRONIZE CACHE moves nothing
        ("c1000000000000000000", None),  # nothing is known of it
        ("55100000000000011800", 0x118),  # MODE SELECT(10)
        ("1d1000011800", 0x118),  # SEND DIAGNOSTIC
        ("4c030000000000011800", 0x118),  # LOG SELECT
        ("830000000000000000000000005c0000", 0x5C),  # EXTENDED COPY(LID1)
        ("a40a00000000000000180000", 0x18),  # SET TARGET PORT GROUPS
        ("48010000000000000800", 8),  # SANITIZE: OVERWRITE
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
