"""What a target lends to its units: behind LIO the kernel does this, here there is nobody else."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.ports import AccessState, TargetPortGroup
from tcmu_runner.scsi.reservations import Reservations
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.scsi.xcopy import Peers

# REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 6.38): ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL
# UNIT RESET; what `management` carries out.
TASK_MANAGEMENT = b"\xd8\x00"


class Ports:
    """Each portal is a target port in a group of its own, and all are equally good."""

    implicit, explicit = True, False
    transition_seconds = 0

    def __init__(self, groups: Callable[[], Sequence[int]]) -> None:
        self._groups = groups

    def groups(self) -> Sequence[TargetPortGroup]:
        optimized = frozenset({AccessState.ACTIVE_OPTIMIZED})
        return [TargetPortGroup(group, [group], supported=optimized) for group in self._groups()]

    def here(self, nexus: Nexus) -> tuple[int, int] | None:
        return nexus.port, nexus.port

    def set_state(self, group: int, state: AccessState) -> None:
        raise OSError(errno.EOPNOTSUPP, "the states of these ports do not change")


def lend(
    unit: Unit, luns: Callable[[], Sequence[int]], ports: Ports, peers: Peers, abort: Callable[[Nexus], None]
) -> None:
    """luns: the numbers of the target's LUNs. peers: finds one by name, of those that an initiator reaches
    (EXTENDED COPY). abort: ends the commands of a nexus (PREEMPT AND ABORT)."""
    unit.reservations = Reservations()
    unit.luns = luns
    unit.ports = ports
    unit.peers = peers
    unit.abort = abort
    unit.task_management = TASK_MANAGEMENT
    unit.tells_residuals = True
