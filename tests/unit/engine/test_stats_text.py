"""Statistics in words."""

import pytest

from tcmu_runner.engine.observe.statistics import OpcodeStatistics, Statistics
from tcmu_runner.engine.observe.stats_text import error_name, name, percentile, summary


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ((0x02, 0x3, 0x11, 0x00), "MEDIUM ERROR 11/00 (unrecovered read error)"),  # SPC-5 annex F.2
        ((0x02, 0x5, 0x24, 0x00), "ILLEGAL REQUEST 24/00 (invalid field in cdb)"),
        ((0x02, 0x3, 0x99, 0x01), "MEDIUM ERROR 99/01"),
        ((0x02, 0xC, 0x00, 0x00), "sense key C 00/00"),  # reserved
        ((0x08, 0x0, 0x00, 0x00), "BUSY"),  # SAM-5 table 33
        ((0x28, 0x0, 0x00, 0x00), "TASK SET FULL"),
        ((0xFF, 0xF, 0xFF, 0xFF), "status FF"),
    ],
)
def test_errors(error: tuple[int, int, int, int], words: str) -> None:
    assert error_name(*error) == words


def test_opcodes() -> None:
    assert (name(0x28), name(0xC1)) == ("READ(10)", "opcode C1")


def test_a_percentile_is_the_upper_edge_of_its_bucket() -> None:
    opcode = OpcodeStatistics(0x28, 100, 0, 0, 0, (0,) * 7 + (98,) + (0,) * 4 + (2,))
    assert (percentile(opcode, 0.5), percentile(opcode, 0.98), percentile(opcode, 0.99)) == (128, 128, 4096)


def test_the_summary_of_a_lun() -> None:
    counters = Statistics()
    counters.record(0x28, 4096, 0.0001, 0, b"")
    counters.record(0x28, 0, 0.0001, 8, b"")
    counters.gauge(1, None)
    assert list(summary(counters.snapshot())) == [
        "1 commands under way",
        "READ(10): 2 commands, 4 KiB, 1 errors, mean 100 us, 99 % below 128 us",
        "BUSY: 1 commands",
    ]


def test_slow_commands_are_named() -> None:
    counters = Statistics()
    counters.record_slow(bytes.fromhex("28000000000800000800"), 4096, 1.25, 0)
    lines = list(summary(counters.snapshot()))
    assert lines[1] == "1 slow commands, the last of them:"
    assert lines[2].endswith(" READ(10) 28000000000800000800, 4 KiB, 1.250 s")
