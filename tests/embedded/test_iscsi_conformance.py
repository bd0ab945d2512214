"""libiscsi's suite against each kind of unit: no failure, and no skip but those in expected_skips.txt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import libiscsi
import pytest
from conftest import DISKS

from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.handler.registry import Registry

SKIPS = Path(__file__).with_name("expected_skips.txt")
SLOW = "Sanitize.Reset"  # wants a disk that needs seconds for it, and waits a minute
LINES = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, check=True).stdout.split()
SUITES = [line.removeprefix("ALL.") for line in LINES if line.startswith("ALL.") and line.count(".") == 1]
TESTS = [line.removeprefix("ALL.") for line in LINES if line.startswith("ALL.") and line.count(".") == 2]
TWO_PATHS = "MultipathIO"
# A suite in one run, but for the one which has a test that runs elsewhere.
UNITS = [suite for suite in SUITES if suite != "Sanitize"]
UNITS += [test for test in TESTS if test.startswith("Sanitize.") and test != SLOW]

LARGE_PHYSICAL_BLOCKS = [
    "CompareAndWrite",
    "Unmap",
    "WriteSame10",
    "WriteSame16",
    "Inquiry",
    "ReadCapacity16",
]
NO_WRITING = ["ReadOnly", "PrinReadKeys", "ProutRegister", "PreventAllow"]
NEEDS_TO_WRITE = [  # and fails without leave, instead of skipping itself
    "ProutReserve", "ProutClear", "ProutPreempt", "Reserve6", "WriteVerify10", "WriteVerify12",
    "WriteVerify16", "Sanitize.InvalidServiceAction",
]  # fmt: skip
NO_LEAVE = "--dataloss flag is not set"


@pytest.mark.parametrize("tests", [unit for unit in UNITS if unit != TWO_PATHS])
@pytest.mark.parametrize("kind", ["512", "4096"])
def test_suite(servers: dict[str, Server], kind: str, tests: str) -> None:
    check(servers[kind], kind, tests, dataloss=True)


@pytest.mark.parametrize("kind", ["512", "4096"])
def test_two_paths(registry: Registry, kind: str) -> None:
    """On a new disk: CompareAndWrite clears 256 blocks, and believes that block 256 is clear, too."""
    with serve(DISKS[kind], registry=registry, portals=2) as server:
        check(server, kind, TWO_PATHS, dataloss=True)


@pytest.mark.parametrize("tests", LARGE_PHYSICAL_BLOCKS)
def test_suite_where_physical_blocks_are_larger(servers: dict[str, Server], tests: str) -> None:
    """Not GetLBAStatus.UnmapSingle: it asks for the status of one block, and wants that of another."""
    check(servers["512e"], "512e", tests, dataloss=True)


@pytest.mark.parametrize("tests", [unit for unit in UNITS if unit not in NEEDS_TO_WRITE])
def test_suite_on_a_read_only_unit(servers: dict[str, Server], tests: str) -> None:
    """Leave to lose data is given only where the suite needs it for what does not write, and for ReadOnly,
    which proves that nothing is written."""
    check(servers["read-only"], "read-only", tests, dataloss=tests in NO_WRITING)


def check(server: Server, kind: str, tests: str, *, dataloss: bool) -> None:
    report = libiscsi.run(server.url(), server.url(portal=1), tests=f"ALL.{tests}", dataloss=dataloss)
    assert report.ran
    assert not report.failed, "\n".join(report.failed.values())
    here = {test for test in TESTS if test == tests or test.startswith(f"{tests}.")}
    expected = libiscsi.expected_skips(SKIPS, kind)
    if not dataloss:
        report.skipped = {test: reason for test, reason in report.skipped.items() if NO_LEAVE not in reason}
    assert report.skipped == {test: reason for test, reason in expected.items() if test in here}


def test_every_expected_skip_is_of_a_test_that_exists() -> None:
    for kind in ("512", "512e", "4096", "read-only"):
        assert set(libiscsi.expected_skips(SKIPS, kind)) <= set(TESTS)


@pytest.mark.parametrize("test", ["WriteSame10.ZeroBlocks", "WriteSame16.ZeroBlocks"])
def test_write_same_to_the_end(registry: Registry, test: str) -> None:
    """Not UnmapUntilEnd: on such a unit it sends blocks of FFh to be unmapped and wants zeroes back, where
    SBC-4 5.52 demands what was sent."""
    size = 4 << 20
    overrides = Overrides(limits={"write_same_to_end": True, "max_write_same": size // 512})
    with serve(Disk("everything/", size, overrides=overrides), registry=registry) as server:
        report = libiscsi.run(server.url(), tests=f"ALL.{test}", dataloss=True)
    assert (report.ran, report.failed, report.skipped) == (1, {}, {})


@pytest.mark.timeout(200)
def test_sanitize_outlives_resets(registry: Registry) -> None:
    """On a disk that needs seconds to be overwritten, as real ones need hours."""
    with serve(Disk("slow/", 64 << 20), registry=registry) as server:
        report = libiscsi.run(server.url(), tests=f"ALL.{SLOW}")
    assert (report.ran, report.failed, report.skipped) == (1, {}, {})
