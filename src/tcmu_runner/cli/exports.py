"""How LIO exports the userspace-backed LUNs, as configfs shows it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.guardian.unlinking import UNLINK, sleepers
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.printable import utf8

DISK_SECONDS = 10.0  # the kernel scans for a new disk on a thread of its own
PAUSE = 0.05  # seconds between two looks for it
SCSI_DEVICES = Path("/sys/bus/scsi/devices")


@dataclass(frozen=True, slots=True)
class Export:
    """fabric: loopback, iscsi, vhost, ... target: its name. disk: /dev/sdX of a loopback export."""

    fabric: str
    target: str
    lun: int
    disk: str = ""

    def __str__(self) -> str:
        return self.disk or f"{self.target} LUN {self.lun}"


def exports(paths: Paths = SYSTEM) -> dict[str, list[Export]]:
    """Exports by the LUN's name (user_0/vol0)."""
    found: defaultdict[str, list[Export]] = defaultdict(list)
    for link in sorted(_links(paths)):
        if link.is_symlink():
            store = link.readlink()
            if store.parent.name.startswith("user_"):
                found[utf8(f"{store.parent.name}/{store.name}")].append(_export(link))
    return dict(found)


def _links(paths: Paths) -> Iterator[Path]:
    """Links of LUNs to backstores. Skips LUNs that are being unlinked: listing their directory would wait for
    the lock that the kernel holds until the unlinking ends."""
    nobody_waits = os.geteuid() == 0 and not sleepers(UNLINK, paths.proc)  # only root can read kernel stacks
    for lun in sysfs.find(paths.target, "*/*/tpgt_*/lun/lun_*"):
        if nobody_waits or lun.parts[-5] != "loopback" or _has_disk(lun):
            yield from sysfs.find(lun, "*")


def _has_disk(lun: Path) -> bool:
    group, number = lun.parents[1], lun.name.removeprefix("lun_")
    try:
        return (SCSI_DEVICES / f"{sysfs.read(group / 'address')}:{number}").exists()
    except OSError:
        return True


def _export(link: Path) -> Export:
    lun, group, target = link.parents[0], link.parents[2], link.parents[3]
    number = int(lun.name.removeprefix("lun_"))
    fabric = target.parent.name
    return Export(fabric, target.name, number, disk(group, number) if fabric == "loopback" else "")


def disk(group: Path, lun: int) -> str:
    """The device node of a loopback LUN; empty until the kernel has found the disk. group: .../tpgt_1"""
    try:
        address = sysfs.read(group / "address")
        (name,) = (path.name for path in (SCSI_DEVICES / f"{address}:{lun}/block").iterdir())
    except (OSError, ValueError):
        return ""
    return f"/dev/{name}"


def wait_for_disk(group: Path, clock: Clock = MACHINE) -> str:
    """The device node of a new loopback LUN 0; empty if the kernel has not found it after DISK_SECONDS."""
    deadline = clock.monotonic() + DISK_SECONDS
    while not (found := disk(group, 0)) and clock.monotonic() < deadline:
        clock.sleep(PAUSE)
    return found


def users(export: Export, paths: Paths = SYSTEM) -> Iterator[str]:
    """The present users of an export, as sentences."""
    if export.disk:
        name = export.disk.removeprefix("/dev/")
        for line in sysfs.read(paths.proc / "self/mountinfo").splitlines():
            fields = line.split()
            if fields[fields.index("-") + 2].startswith(export.disk):
                yield f"{export.disk} is mounted on {fields[4]}"
        for holder in sysfs.find(Path("/sys/class/block", name, "holders"), "*"):
            yield f"{export.disk} is used by {holder.name}"
    sessions = paths.target / export.fabric / export.target
    for info in sysfs.find(sessions, "tpgt_*/acls/*/info"):
        if "No active iSCSI Session" not in sysfs.read(info):
            yield f"initiator {info.parent.name} is logged in to {export.target}"
    for group in sysfs.find(sessions, "tpgt_*/dynamic_sessions"):
        for initiator in sysfs.read(group).replace("\0", "\n").split():
            yield f"initiator {initiator} is logged in to {export.target}"
