import shutil

import pytest
from kernel.tree import make_backstore

from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.workers.unit_services import unit_services

REPORT_LUNS = 0xA0  # SPC-5 6.33
RESERVATIONS = [0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F]  # RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT


def unit_behind_lio(paths: Paths) -> Unit:
    unit = Unit(512, 1 << 20, DISK, Capabilities())
    unit_services(unit, Backstore(0, "vol0", paths), paths)
    return unit


@pytest.mark.parametrize(
    ("emulate_pr", "pgr_support", "announced"), [(1, 1, True), (1, 0, False), (0, 1, False), (0, 0, False)]
)
def test_reservations_are_announced_where_lio_keeps_them(
    paths: Paths, emulate_pr: int, pgr_support: int, *, announced: bool
) -> None:
    """Also when the administrator decides after the device is up."""
    directory = make_backstore(paths)
    unit = unit_behind_lio(paths)
    (directory / "attrib/emulate_pr").write_text(f"{emulate_pr}\n")
    (directory / "attrib/pgr_support").write_text(f"{pgr_support}\n")
    assert [opcode in unit.answered_by_target for opcode in RESERVATIONS] == [announced] * 6


def test_report_luns_is_always_lio_s(paths: Paths) -> None:
    make_backstore(paths)
    unit = unit_behind_lio(paths)
    assert REPORT_LUNS in unit.answered_by_target
    assert 0x12 not in unit.answered_by_target  # INQUIRY is ours


def test_a_backstore_that_went_answers_nothing(paths: Paths) -> None:
    directory = make_backstore(paths)
    unit = unit_behind_lio(paths)
    shutil.rmtree(directory)
    assert 0x5E not in unit.answered_by_target


@pytest.mark.parametrize("alua_support", [True, False])
def test_port_groups_are_lent_where_lio_keeps_them(paths: Paths, *, alua_support: bool) -> None:
    (make_backstore(paths) / "attrib/alua_support").write_text(f"{int(alua_support)}\n")
    assert (unit_behind_lio(paths).ports is not None) == alua_support
