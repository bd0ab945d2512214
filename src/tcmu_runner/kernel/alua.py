"""Target port groups as LIO keeps them, in the directory `alua` of a backstore.

LIO itself refuses commands by the state of a group, but leaves to us the commands that report the groups and
set their states (SPC-4 6.37, 6.45). The files are read at each such command, since an administrator or a
cluster's tool may change them at any time. As all of configfs, they must not be touched while REMOVED waits
for its reply; then the device has no LUN, so no command can arrive.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.sysfs import KernelFileError
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.ports import AccessState, TargetPortGroup

_SUPPORT = {
    AccessState.ACTIVE_OPTIMIZED: "active_optimized",
    AccessState.ACTIVE_NON_OPTIMIZED: "active_nonoptimized",
    AccessState.STANDBY: "standby",
    AccessState.UNAVAILABLE: "unavailable",
    AccessState.LBA_DEPENDENT: "lba_dependent",
    AccessState.OFFLINE: "offline",
    AccessState.TRANSITIONING: "transitioning",
}
_BY_COMMAND = 1  # STATUS CODE: altered by SET TARGET PORT GROUPS (SPC-4 6.37)
_STATUS = {"None": 0, "Altered by Explicit STPG": _BY_COMMAND, "Altered by Implicit ALUA": 2}

log = logging.getLogger(__name__)


class PortGroups:
    """The `TargetPorts` of a backstore: its directory in configfs, and where LIO's fabrics are (`target`).

    Groups without ports, and groups removed while they are read, are left out.
    """

    def __init__(self, directory: Path, target: Path) -> None:
        self._name = "/".join(directory.parts[-2:])
        self._directory = directory / "alua"
        self._target = target

    @property
    def implicit(self) -> bool:
        return any("Implicit" in _access_type(group) for group in self._used())

    @property
    def explicit(self) -> bool:
        """Whether initiators can set the states of all groups. LIO accepts a write to alua_access_state only
        for a group with implicit ALUA, too, and only root may write it."""
        groups = list(self._used())
        return bool(groups) and all(map(_can_be_set, groups))

    @property
    def transition_seconds(self) -> int:
        return max((_number(group / "implicit_trans_secs") for group in self._used()), default=0)

    def groups(self) -> Sequence[TargetPortGroup]:
        found = []
        for directory in self._used():
            with suppress(OSError, ValueError):
                found.append(self._group(directory))
        return sorted(found, key=lambda group: group.id)

    def here(self, nexus: Nexus) -> tuple[int | None, int] | None:
        """(port, group) over which commands of `nexus` come. LIO does not pass the port on, so it is known
        only if a single one qualifies, and the group if all ports are in one. Ports of a disabled portal
        group do not count: cluster tools so represent the ports of other nodes."""
        live = [
            (port, _number(directory / "tg_pt_gp_id"))
            for directory in self._used()
            for port, enabled in self._ports(directory)
            if enabled
        ]
        groups = {group for _, group in live}
        if len(groups) != 1:
            return None
        return live[0][0] if len(live) == 1 else None, groups.pop()

    def set_state(self, group: int, state: AccessState) -> None:
        """Blocks for the group's trans_delay_msecs, 0 by default. LIO queues the unit attention."""
        for directory in self._used():
            if _number(directory / "tg_pt_gp_id") == group:
                return self._set(directory, state)
        raise FileNotFoundError(errno.ENOENT, f"{self._name}: no target port group {group}")

    def _set(self, directory: Path, state: AccessState) -> None:
        try:
            sysfs.write(directory / "alua_access_state", str(int(state)))
            sysfs.write(directory / "alua_access_status", str(_BY_COMMAND))
        except OSError as error:
            text = f"{self._name}: cannot set target port group {directory.name}: {error.strerror}"
            log.warning("%s; an initiator asked for %s", text, state.name)
            raise KernelFileError(error.errno or 0, text, directory) from error

    # -- files ----------------------------------------------------------------------------------------

    def _used(self) -> Iterator[Path]:
        """The directories of groups that have ports."""
        with suppress(OSError):
            yield from (group for group in sorted(self._directory.iterdir()) if _members(group))

    def _group(self, directory: Path) -> TargetPortGroup:
        return TargetPortGroup(
            id=int(sysfs.read(directory / "tg_pt_gp_id")),
            ports=sorted(port for port, _ in self._ports(directory)),
            state=AccessState(int(sysfs.read(directory / "alua_access_state"))),
            supported=frozenset(
                state for state, name in _SUPPORT.items() if _number(directory / f"alua_support_{name}")
            ),
            preferred=bool(_number(directory / "preferred")),
            status=_STATUS.get(sysfs.read(directory / "alua_access_status"), 0),
        )

    def _ports(self, directory: Path) -> Iterator[tuple[int, bool]]:
        """(relative target port, whether its portal group is switched on) of each port in a group."""
        for member in _members(directory):
            fabric, wwn, group, lun = member.split("/")
            portal_group = self._target / fabric.lower() / wwn / group  # `iSCSI` is in the directory iscsi
            with suppress(OSError, ValueError):
                # always in memory: no look-up that would wait for a process that links a LUN just now
                yield _relative_port(portal_group, lun), bool(_number(portal_group / "enable", absent=1))


def _relative_port(portal_group: Path, lun: str) -> int:
    """The relative target port identifier: the portal group has it since Linux 6.5, each LUN before."""
    try:
        text = sysfs.read(portal_group / "rtpi")
    except OSError:
        text = sysfs.read(portal_group / "lun" / lun / "statistics/scsi_port/indx")
    return int(text, 0)


def _members(group: Path) -> list[str]:
    """FABRIC/WWN/tpgt_N/lun_N of each port. The kernel ends each entry with a newline and a NUL."""
    try:
        text = sysfs.read(group / "members")
    except OSError:
        return []
    return [member.strip() for member in text.split("\0") if member.count("/") == 3]


def _access_type(group: Path) -> str:
    try:
        return sysfs.read(group / "alua_access_type")
    except OSError:
        return ""


def _can_be_set(group: Path) -> bool:
    writable = os.access(group / "alua_access_state", os.W_OK, effective_ids=True)
    return _access_type(group) == "Implicit and Explicit" and writable


def _number(path: Path, absent: int = 0) -> int:
    try:
        return int(sysfs.read(path))
    except (OSError, ValueError):
        return absent
