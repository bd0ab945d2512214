"""The way back from whatever a test has made, also when it failed half-way. What does not go raises."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import iscsi, loopback, processes
from support.configfs import TARGET, Backstore
from support.iscsi import IscsiTarget
from support.loopback import Loopback

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
    loop = subprocess.Popen(["sh", "-c", ANSWER_FOR_THE_DEAD], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def _everything() -> None:
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
