"""The way back from whatever a test has made, also when it failed half-way. What does not go raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import iscsi, loopback, processes
from support.configfs import TARGET, Backstore, store
from support.deadline import GENEROUS, background, within

ANSWER_FOR_THE_DEAD = f"""
while sleep 0.3; do
    for action in {TARGET}/core/user_*/*/action; do
        echo 0 >$action/block_dev
        echo 2 >$action/reset_ring
    done
done 2>/dev/null
"""


def everything() -> None:
    """Logs all initiators out, then removes all LUNs of ours and all userspace backstores."""
    with _no_command_waits_for_the_dead():
        _everything()


@contextmanager
def _no_command_waits_for_the_dead() -> Iterator[None]:
    """Without a daemon its devices are blocked: the flush before a disk goes would be tried for minutes."""
    if processes.named(processes.SUPERVISOR):
        yield
        return
    with background("sh", "-c", ANSWER_FOR_THE_DEAD):
        yield


def _everything() -> None:
    iscsi.logout_everywhere()
    for target in [*_directories(iscsi.FABRIC, "iqn.*"), *_directories(loopback.FABRIC, "naa.*")]:
        for group in _directories(target, "tpgt_*"):
            _remove_group(group)
        target.rmdir()
    for hba in _directories(TARGET / "core", "user_*"):
        for device in _directories(hba, "*"):
            Backstore(device.name, int(hba.name.removeprefix("user_"))).remove()
        if hba.exists():
            hba.rmdir()


def _remove_group(group: Path) -> None:
    """A target portal group, whoever has made it; ends its sessions, which waits for their commands."""
    if (group / "enable").exists():
        within(GENEROUS, store, group / "enable", 0)
    for lun in [*group.glob("acls/*/lun_*"), *group.glob("lun/lun_*")]:
        for link in loopback.links(lun):
            within(GENEROUS, link.unlink)
        lun.rmdir()
    for made in [*group.glob("acls/*"), *group.glob("np/*")]:
        made.rmdir()
    if (group / "nexus").exists():
        store(group / "nexus", "NULL")
    group.rmdir()


def _directories(parent: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(parent.glob(pattern)) if path.is_dir()]
