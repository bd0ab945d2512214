"""libiscsi's suite against each kind of unit: no failure and no skip but those in expected_failures.txt and
expected_skips.txt. What the suite has, and so what runs, differs between libiscsi 1.19 and 1.20."""

from __future__ import annotations

import subprocess
from pathlib import Path

import libiscsi
import pytest
from conftest import DISKS

from tcmu_runner.embedded import Credentials, Disk, Server, serve
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.handler.registry import Registry
from tcmu_runner.scsi import xcopy

HERE = Path(__file__).parent
SKIPS, FAILURES = HERE / "expected_skips.txt", HERE / "expected_failures.txt"
LINES = subprocess.run(["iscsi-test-cu", "--list"], capture_output=True, text=True, check=True).stdout.split()
SUITES = [line.removeprefix("ALL.") for line in LINES if line.startswith("ALL.") and line.count(".") == 1]
TESTS = [line.removeprefix("ALL.") for line in LINES if line.startswith("ALL.") and line.count(".") == 2]
TWO_PATHS, CHAP = "MultipathIO", "iSCSICHAP"  # suites that want a target of their own
SLOW = "Sanitize.Reset"  # wants a disk that needs seconds for it, and waits a minute
LARGE = "ExtendedCopy.Large"  # wants a disk of twice the largest segment
# After an answer of NotUnderstood, which RFC 7143 6.2 demands, libiscsi closes the connection, and this test
# waits for ever on what was its socket. In the end it wants SendTargets=All, too: see expected_failures.txt.
WAITS = "iSCSISendTargets.Invalid"
ELSEWHERE = {SLOW, LARGE, WAITS}
ONE_BY_ONE = {"iSCSITMF"}  # its first test ends the session that the next one needs


def in_runs(suite: str) -> list[str]:
    """A suite in one run, unless some of its tests cannot be in it."""
    tests = [test for test in TESTS if test.startswith(f"{suite}.")]
    if suite in ONE_BY_ONE or not ELSEWHERE.isdisjoint(tests):
        return [test for test in tests if test not in ELSEWHERE]
    return [suite]


UNITS = [unit for suite in SUITES if suite not in (TWO_PATHS, CHAP) for unit in in_runs(suite)]

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


@pytest.mark.parametrize("tests", UNITS)
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
    here = {test for test in TESTS if test == tests or test.startswith(f"{tests}.")}
    for test, text in libiscsi.expected(FAILURES, kind).items():
        if test in here and text in report.failed.get(test, ""):
            del report.failed[test]
    assert not report.failed, "\n".join(report.failed.values())
    expected = libiscsi.expected(SKIPS, kind)
    if not dataloss:
        report.skipped = {test: reason for test, reason in report.skipped.items() if NO_LEAVE not in reason}
    assert report.skipped == {test: reason for test, reason in expected.items() if test in here}


def test_every_expected_skip_is_of_a_test_that_exists() -> None:
    for kind in ("512", "512e", "4096", "read-only"):
        assert set(libiscsi.expected(SKIPS, kind)) <= set(TESTS)


@pytest.mark.skipif(CHAP not in SUITES, reason="libiscsi 1.19 has no such tests")
def test_chap(registry: Registry) -> None:
    credentials = Credentials({"alice": "twelve-bytes"})
    with serve(DISKS["512"], registry=registry, credentials=credentials) as server:
        url = server.url().replace("://", "://alice%twelve-bytes@")
        report = libiscsi.run(url, tests=f"ALL.{CHAP}")
    assert (report.ran, report.failed, report.skipped) == (2, {}, {})


@pytest.mark.skipif(LARGE not in TESTS, reason="libiscsi 1.19 has no such test")
def test_copy_of_a_large_segment(registry: Registry) -> None:
    with serve(Disk("everything/", 2 * xcopy.MAX_SEGMENT_LENGTH), registry=registry) as server:
        report = libiscsi.run(server.url(), tests=f"ALL.{LARGE}")
    assert (report.ran, report.failed, report.skipped) == (1, {}, {})


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
