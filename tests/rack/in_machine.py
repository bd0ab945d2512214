"""The parts of a rack's machines. In a machine, as root, with tests/vm on PYTHONPATH:

in_machine.py serve NAME ADDRESS        a gateway: the daemon, and a LUN of it over iSCSI; both stay
in_machine.py verify GATEWAY=ADDRESS... an initiator: fio on a disk of each gateway, from the file `started`
in
                                        the host's share until the host makes the file `stop` there
"""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import command
from support.fio import Job, verifying
from support.fixtures import MIB
from support.iscsi import Initiator, IscsiTarget, logout_everywhere

SHARE = Path("/host/share")
IMAGE = Path("/srv/lun.img")
SIZE = 64 * MIB
HELD_SECONDS = 600
"""How long the initiator holds commands for a gateway that is away; a reboot takes a fraction of it."""
STOP_SECONDS = 900.0


def target(name: str, address: str) -> IscsiTarget:
    return IscsiTarget({"left": 1, "right": 2}[name], f"{address}:3260")


def serve(name: str, address: str) -> None:
    command("modprobe", "-a", "target_core_user", "iscsi_target_mod")
    Daemon(Path("/srv/tcmu-runner.log")).start()
    backstore = Backstore.create("lun", f"file/{IMAGE}", SIZE)
    backstore.enable()
    target(name, address).create(backstore)


def verify(gateways: dict[str, str]) -> None:
    command("modprobe", "iscsi_tcp")
    subprocess.run(["systemctl", "start", "iscsid"], check=True)
    settings = {"session.timeo.replacement_timeout": str(HELD_SECONDS)}
    with ExitStack() as stack:
        running = []
        for name, address in gateways.items():
            disk = Initiator().login(target(name, address), settings=settings)
            running.append(stack.enter_context(verifying(Job(disk, 16 * MIB, depth=16))))
        (SHARE / "started").touch()
        deadline = time.monotonic() + STOP_SECONDS
        while not (SHARE / "stop").exists():
            assert time.monotonic() < deadline, "the host has not said stop"
            for verification in running:
                verification.check()
            time.sleep(0.2)
        for verification in running:
            verification.progress(200)
    logout_everywhere()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        verify(dict(word.split("=") for word in sys.argv[2:]))
