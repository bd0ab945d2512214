"""One QEMU process that boots the image. Software emulation, because KVM is not to be had everywhere."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vm import console, host, session
from vm.image import Image

BOOT_TIMEOUT = 300.0
ACCELERATOR = os.environ.get("TCMU_VM_ACCEL", "tcg,thread=multi")

# Emulated processors, as like to real ones as that costs nothing. l3-cache: they share one, else Linux leaves
# a thread that wakes behind the one that woke it, with the other processor idle; only an Intel one says so.
# erms: an emulated `rep movsb` copies a byte at a time, and took most of the time of a large transfer.
# la57: a fifth level of page tables makes each miss of an emulated TLB dearer.
CPU = "max,vendor=GenuineIntel,l3-cache=on,erms=off,la57=off" if ACCELERATOR.startswith("tcg") else "max"

# tsc=reliable: else the guest falls back to a slow clock. An oops ends the machine: going on means to hang.
KERNEL_COMMAND_LINE = (
    "console=ttyS0 root=/dev/vda rw mitigations=off tsc=reliable oops=panic panic=-1 sysrq_always_enabled=1 "
    "fsck.mode=skip systemd.show_status=false"
)

GUEST_ADDRESS = "10.0.2.15"
CONFIGURE_NETWORK = f"""
until card=$(ls /sys/class/net | grep -v '^lo$'); do sleep 0.1; done
udevadm settle
card=$(ls /sys/class/net | grep -v '^lo$')
ip address replace {GUEST_ADDRESS}/24 dev "$card" && ip link set "$card" up
"""


@dataclass(frozen=True)
class Machine:
    """A running machine; these four facts are enough to find it again from another process."""

    pid: int
    sockets: Path
    """Directory of the sockets: agent, console, monitor. Short, for the kernel's limit on their paths."""
    out: Path
    """What remains: console.log, qemu.log, and share/, which is the guest's /host/share, with journal.log."""
    checkout: Path

    @classmethod
    def boot(cls, image: Image, out: Path, *, disk: Path | None = None, survive: bool = False) -> Self:
        """Starts QEMU and returns at once. The first `run` waits for the guest.

        Every boot has a fresh disk, unless `disk` names an overlay file to keep (made if absent). The machine
        ends with this process unless it shall `survive` it.
        """
        host.require(["qemu-system-x86_64", "qemu-img"])
        sockets = Path(tempfile.mkdtemp(prefix="tcmu-vm-"))
        (out / "share").mkdir(parents=True, exist_ok=True)
        leash = [] if survive else ["setpriv", "--pdeathsig", "TERM"]
        command = [*leash, host.program("qemu-system-x86_64"), *hardware(), *kernel(image)]
        command += [*root_disk(image, disk), *shares(out / "share"), *lines(sockets, out)]
        with (out / "qemu.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        machine = cls(process.pid, sockets, out, host.CHECKOUT)
        machine.wait_for_sockets(process)
        process.returncode = 0  # from here on it is known by its number: this object need not be waited for
        return machine

    def wait_for_sockets(self, process: "subprocess.Popen[bytes]") -> None:
        while not (self.sockets / "monitor").exists():
            if process.poll() is not None:
                raise host.VmError(f"QEMU did not start: {(self.out / 'qemu.log').read_text().strip()}")
            time.sleep(0.05)

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
        host.say("booting")
        self.run(["true"], timeout=BOOT_TIMEOUT)
        host.say(f"booted in {time.monotonic() - started:.0f} s")

    def ask_kernel_what_hangs(self) -> None:
        """Stacks of all blocked tasks (SysRq-w) and of the CPUs (SysRq-l) onto the console, if QEMU runs."""
        try:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(str(self.sockets / "monitor"))
                for key in "wl":
                    monitor.sendall(f"sendkey alt-sysrq-{key}\n".encode())
                    time.sleep(2)
        except OSError:
            return

    def open_port(self, port: int) -> int:
        """Plugs a network card in, if that has not been done: over it this host's loopback reaches a port of
        the guest, which itself reaches nothing. Returns the port on loopback."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ours: int = probe.getsockname()[1]
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.sockets / "monitor"))
            monitor.sendall(b"netdev_add user,id=lan,restrict=on\n")
            monitor.sendall(b"device_add virtio-net-pci,id=card,netdev=lan\n")
            monitor.sendall(f"hostfwd_add lan tcp:127.0.0.1:{ours}-{GUEST_ADDRESS}:{port}\n".encode())
            configured = self.run(["sh", "-c", CONFIGURE_NETWORK], timeout=60)
        if configured.status != 0:
            raise host.VmError(f"the guest's network card does not come up {configured.note}")
        return ours

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
        machine = cls(facts["pid"], Path(facts["sockets"]), Path(facts["out"]), Path(facts["checkout"]))
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


def hardware() -> list[str]:
    return (
        f"-accel {ACCELERATOR} -cpu {CPU} -smp 2,sockets=1,cores=2 -m 4096 "
        "-nodefaults -no-user-config -display none -no-reboot -device virtio-rng-pci"
    ).split()


def kernel(image: Image) -> list[str]:
    return ["-kernel", f"{image.kernel}", "-initrd", f"{image.initrd}", "-append", KERNEL_COMMAND_LINE]


def root_disk(image: Image, overlay: Path | None) -> list[str]:
    if overlay is None:
        return ["-drive", f"file={option(image.root)},if=virtio,format=raw,snapshot=on,cache=unsafe"]
    if not overlay.exists():
        overlay.parent.mkdir(parents=True, exist_ok=True)
        create = [host.program("qemu-img"), "create", "-q", "-f", "qcow2"]
        subprocess.run([*create, "-b", str(image.root), "-F", "raw", str(overlay)], check=True)
    return ["-drive", f"file={option(overlay)},if=virtio,format=qcow2,cache=unsafe"]


def shares(share: Path) -> list[str]:
    """The directories that the guest mounts by /etc/fstab."""
    arguments = []
    for tag, path, mode in (("checkout", host.CHECKOUT, ",readonly=on"), ("share", share, "")):
        arguments += ["-fsdev", f"local,id={tag},path={option(path)},security_model=none{mode}"]
        arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return arguments


def lines(sockets: Path, out: Path) -> list[str]:
    """The agent's port, the serial console (always logged) and QEMU's monitor."""
    agent = f"socket,id=agent,path={sockets}/agent,server=on,wait=off"
    serial = f"socket,id=console,path={sockets}/console,server=on,wait=off,logfile={option(out)}/console.log"
    return [
        *("-device", "virtio-serial-pci", "-chardev", agent),
        *("-device", "virtserialport,chardev=agent,name=vm.agent"),
        *("-chardev", serial, "-serial", "chardev:console"),
        *("-monitor", f"unix:{sockets}/monitor,server=on,wait=off"),
    ]


def option(path: Path) -> str:
    """A path inside a QEMU option, where a comma is doubled."""
    return str(path).replace(",", ",,")
