"""One running machine of either sort: started, asked, ended, and found again from another process."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vm import console, host, qemu, session, uml
from vm.kinds import KINDS

BOOT_TIMEOUT = 1200.0  # an emulated machine beside a dozen busy processes has taken 300


@dataclass(frozen=True)
class Machine:
    """A running machine; these four facts are enough to find it again from another process."""

    kind: str
    """Its name in :data:`vm.kinds.KINDS`."""
    pid: int
    sockets: Path
    """Directory of the sockets: agent, console, monitor. Short, for the kernel's limit on their paths."""
    out: Path
    """What remains: console.log, machine.log, and share/, the guest's /host/share, with journal.log."""
    checkout: Path

    @classmethod
    def boot(
        cls,
        kind: str,
        out: Path,
        *,
        disk: Path | None = None,
        survive: bool = False,
        network: uml.Network | None = None,
    ) -> Self:
        """Starts a machine and returns at once. The first `run` waits for the guest.

        Every boot has a fresh disk, unless `disk` names an overlay file to keep (made if absent). The machine
        ends with this process, unless it is to `survive` it.
        """
        sockets = Path(tempfile.mkdtemp(prefix="tcmu-vm-"))
        (out / "share").mkdir(parents=True, exist_ok=True)
        leash = [] if survive else ["setpriv", "--pdeathsig", "TERM"]
        command = KINDS[kind].command(sockets, out, disk, network)
        with (out / "machine.log").open("wb") as log:
            process = subprocess.Popen(
                [*leash, *command],
                cwd=host.CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        machine = cls(kind, process.pid, sockets, out, host.CHECKOUT)
        host.wait_for_sockets(sockets, process, out)
        process.returncode = 0  # from here on it is known by its number: this object need not be waited for
        return machine

    @property
    def share(self) -> Path:
        return self.out / "share"

    @property
    def console_log(self) -> bytes:
        return (self.out / "console.log").read_bytes()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        output: session.Output = session.to_terminal,
        cwd: str = "/",
    ) -> session.Outcome:
        """One command in the guest; if that does not answer, the console log gets what it waits for."""
        try:
            return session.run(self.sockets / "agent", argv, timeout=timeout, output=output, cwd=cwd)
        except session.GuestGoneError:
            self.ask_kernel_what_hangs()
            raise

    def wait_for_boot(self) -> None:
        started = time.monotonic()
        host.say(f"booting {self.kind}")
        self.run(["true"], timeout=BOOT_TIMEOUT)
        host.say(f"booted in {time.monotonic() - started:.0f} s")

    def ask_kernel_what_hangs(self) -> None:
        """Stacks of all blocked tasks onto the console, if the machine runs."""
        with contextlib.suppress(OSError):
            KINDS[self.kind].ask_kernel_what_hangs(self.sockets)

    def open_port(self, port: int) -> int:
        """Plugs a network card into QEMU over which this host's loopback reaches a port of the guest, which
        itself reaches nothing. Returns the port on loopback."""

        def configure(script: str) -> bool:
            return self.run(["sh", "-c", script], timeout=60).status == 0

        return qemu.open_port(self.sockets, port, configure)

    def alive(self) -> bool:
        try:
            return str(self.sockets).encode() in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False

    def power_off(self) -> None:
        """Shuts the guest down in order, which only a disk that is kept needs."""
        with contextlib.suppress(session.GuestGoneError):  # it may end before it answers
            session.run(self.sockets / "agent", ["systemctl", "poweroff"], timeout=60)
        deadline = time.monotonic() + 120
        while self.alive() and time.monotonic() < deadline:
            reap(self.pid)
            time.sleep(0.1)

    def end(self) -> None:
        """Pulls the plug."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        while self.alive():
            reap(self.pid)
            time.sleep(0.05)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.end()

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The machine that was saved there, if it still runs."""
        try:
            facts = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        machine = cls(
            facts["kind"], facts["pid"], Path(facts["sockets"]), Path(facts["out"]), Path(facts["checkout"])
        )
        return machine if machine.alive() else None

    def complaints(self, since: int = 0) -> list[str]:
        """What the kernel complained of on the console, after its first `since` bytes."""
        return console.complaints(self.console_log[since:])


def reap(pid: int) -> None:
    """Lets a child that ended go; a machine that another process started is not ours to wait for."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
