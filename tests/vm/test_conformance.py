"""libiscsi's suite against a LUN of ours over the kernel's iSCSI target: nothing fails but what that target
makes fail (expected_failures.txt).

By default some suites of each kind. With TCMU_TEST_CONFORMANCE=full all of them, and at the same time on a
backstore of the kernel's own: what passes there has to pass on ours, but for what a daemon cannot say through
TCMU (docs/adr/0015). In an emulated machine that takes up to half an hour:
./dev vm exec --timeout 3600 -- env TCMU_TEST_CONFORMANCE=full python -m pytest tests/vm/test_conformance.py
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import libiscsi
from support.configfs import Backstore
from support.deadline import command
from support.fileio import fileio
from support.filesystem import HELD_UP
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.handlers import handler_path
from support.iscsi import PORTAL, IscsiTarget
from support.reservations import registrations

FULL = os.environ.get("TCMU_TEST_CONFORMANCE") == "full"
EXPECTED = libiscsi.expected(Path(__file__).with_name("expected_failures.txt"))
SIZE = 100 * MIB
SOME = """
    Inquiry Mandatory ModeSense6 ReadCapacity10 ReadCapacity16 ReportSupportedOpcodes TestUnitReady Read6
    Read16 CompareAndWrite ExtendedCopy ReceiveCopyResults Unmap GetLBAStatus ReadDefectData10 StartStopUnit
    PrinReadKeys ProutRegister ProutPreempt WriteVerify16 iSCSIcmdsn iSCSIResiduals iSCSITMF
"""
SLOW = "Sanitize.Reset"  # wants a disk that needs half a minute for it, since LIO answers resets slowly
SECONDS = 3000.0
UNSPEAKABLE = "no residual overflow"
ALWAYS = {test for test, reason in EXPECTED.items() if not reason.startswith("sometimes")}


@pytest.fixture(scope="module")
def daemon_arguments() -> tuple[str, ...]:
    return handler_path()


@pytest.fixture(autouse=True)
def place_for_reservations() -> Iterator[None]:
    with registrations():
        yield


@pytest.fixture
def ours(make_backstore: MakeBackstore) -> Backstore:
    return named(make_backstore("ram/", SIZE), 1)


def named(backstore: Backstore, number: int) -> Backstore:
    backstore.store("wwn/vpd_unit_serial", f"c0f0a000-0000-4000-8000-{number:012}")
    return backstore


def url(target: IscsiTarget) -> str:
    return f"iscsi://{PORTAL}/{target.iqn}/0"


def check(report: libiscsi.Report) -> None:
    unexpected = {test: text for test, text in report.failed.items() if test not in EXPECTED}
    assert not unexpected, "\n".join(unexpected.values())
    assert not report.passed & ALWAYS, "these pass: take them off the list"


@pytest.mark.skipif(FULL, reason="the full run includes these")
def test_some_suites(ours: Backstore) -> None:
    tests = ",".join(f"ALL.{suite}" for suite in SOME.split())
    check(libiscsi.run(url(IscsiTarget().create(ours)), tests=tests, seconds=900))


def test_two_paths(ours: Backstore) -> None:
    """Two targets, each with a port to the same LUN."""
    first, second = (IscsiTarget(number).create(ours) for number in range(2))
    report = libiscsi.run(url(first), url(second), tests="ALL.MultipathIO", seconds=500)
    assert not report.failed, "\n".join(report.failed.values())
    assert not report.skipped


@pytest.mark.skipif(not FULL, reason="takes a minute: TCMU_TEST_CONFORMANCE=full")
def test_sanitize_outlives_resets(make_backstore: MakeBackstore) -> None:
    target = IscsiTarget().create(make_backstore("unhurried/", SIZE))
    report = libiscsi.run(url(target), tests=f"ALL.{SLOW}", seconds=250)
    assert report.passed == {SLOW}, "\n".join(report.failed.values())


@pytest.mark.skipif(not FULL, reason="takes up to half an hour: TCMU_TEST_CONFORMANCE=full")
@pytest.mark.timeout(SECONDS + 200)
def test_all_suites_beside_fileio(ours: Backstore, tmp_path: Path, expected_log: ExpectedLog) -> None:
    expected_log(HELD_UP, optional=True)
    with fileio("peer", tmp_path / "peer.img", SIZE) as theirs, ThreadPoolExecutor() as pool:
        targets = [IscsiTarget(number).create(disk) for number, disk in enumerate((ours, named(theirs, 2)))]
        try:
            tests = all_tests_but(SLOW)
            runs = [pool.submit(libiscsi.run, url(each), tests=tests, seconds=SECONDS) for each in targets]
            report, peer = (run.result() for run in runs)
        finally:
            targets[1].delete()
    print(f"ours: {report}: {sorted(report.failed)}\nkernel fileio: {peer}: {sorted(peer.failed)}")
    check(report)
    only_ours = report.failed.keys() & peer.passed & ALWAYS
    assert only_ours == {test for test, reason in EXPECTED.items() if reason == UNSPEAKABLE}


def all_tests_but(left_out: str) -> str:
    """Suite by suite; the suite of the one that is left out test by test."""
    lines = command("iscsi-test-cu", "--list").split()
    split = f"ALL.{left_out.partition('.')[0]}"
    suites = [line for line in lines if line.startswith("ALL.") and line.count(".") == 1 and line != split]
    return ",".join(
        suites + [line for line in lines if line.startswith(f"{split}.") and left_out not in line]
    )
