"""What the kernel gives a unit: LIO's target port groups, and the opcodes that LIO answers itself."""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress

from tcmu_runner.kernel.alua import PortGroups
from tcmu_runner.kernel.configfs import Backstore, ConfigfsError
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import keeps_reservations
from tcmu_runner.scsi.unit import Unit

_REPORT_LUNS = DISK.row("REPORT LUNS").opcode
# RESERVE and RELEASE, (6) and (10), PERSISTENT RESERVE IN and OUT (SPC-4 6.15 and 6.16, SPC-2 7.24 to 7.27)
_RESERVATIONS = {row.opcode for row in DISK if row.needs is keeps_reservations}


class AnsweredByKernel(Container[int]):
    """Opcodes that LIO answers before they reach us. Read from configfs at each use: an administrator can
    turn off LIO's reservations (emulate_pr, pgr_support) after the device is enabled."""

    def __init__(self, store: Backstore) -> None:
        self._store = store

    def __contains__(self, opcode: object) -> bool:
        if opcode in _RESERVATIONS:
            with suppress(ConfigfsError):
                return self._store.answers_reservations()
            return False
        return opcode == _REPORT_LUNS


def unit_services(unit: Unit, store: Backstore, paths: Paths) -> None:
    """Call before the unit's first command. Reservations need no service here: LIO keeps them, refuses them,
    or passes them on without the initiator's name, so that the unit cannot keep them. Raises
    ConfigfsError."""
    unit.answered_by_target = AnsweredByKernel(store)
    if store.alua_support():
        unit.ports = PortGroups(store.directory, paths.target)
