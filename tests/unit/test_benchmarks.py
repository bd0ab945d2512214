"""The micro-benchmark of the core still fits the engine. What it measures is no matter of a test."""

from benchmarks import core


def test_every_kind_of_case_is_measured() -> None:
    for case in (core.Case("ram", "write", 4, 0), core.Case("null", "read", 1, 5)):
        assert core.throughput(case, 0.001) > 0
    assert len(core.stages(core.Case("ram", "read", 1, 0), 0.001)) == len(core.STAGES)
