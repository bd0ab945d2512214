"""The way back from whatever a test has made, also when it failed half-way. What does not go raises."""

from pathlib import Path

from support import iscsi, loopback
from support.configfs import TARGET, Backstore
from support.iscsi import IscsiTarget
from support.loopback import Loopback


def everything() -> None:
    """Logs all initiators out, then removes all LUNs of ours and all userspace backstores."""
    iscsi.logout_everywhere()
    for target in _directories(iscsi.FABRIC, "iqn.*"):
        IscsiTarget(int(target.name.rpartition("target")[2])).delete()
    for target in _directories(loopback.FABRIC, "naa.*"):
        Loopback(int(target.name[-2:], 16)).delete()
    for hba in _directories(TARGET / "core", "user_*"):
        for device in _directories(hba, "*"):
            Backstore(device.name, int(hba.name.removeprefix("user_"))).remove()
        if hba.exists():
            hba.rmdir()


def _directories(parent: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(parent.glob(pattern)) if path.is_dir()]
