"""QEMU as the machine: Debian's unchanged kernel on two emulated processors, without KVM."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from vm import host
from vm.image import Image

PROGRAMS = ("qemu-system-x86_64", "qemu-img")
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

# The image is never written: whichever machines of user-mode Linux lock it, QEMU may read it, too.
SHARED = "file.locking=off"

GUEST_ADDRESS = "10.0.2.15"
CONFIGURE_NETWORK = f"""
until card=$(ls /sys/class/net | grep -v '^lo$'); do sleep 0.1; done
udevadm settle
card=$(ls /sys/class/net | grep -v '^lo$')
ip address replace {GUEST_ADDRESS}/24 dev "$card" && ip link set "$card" up
"""


def command(image: Image, sockets: Path, out: Path, disk: Path | None) -> list[str]:
    """The command line of a machine that boots `image`."""
    host.require(PROGRAMS)
    words = [host.program("qemu-system-x86_64"), *hardware(), *kernel(image)]
    return [*words, *root_disk(image, disk), *shares(out / "share"), *lines(sockets, out)]


def ask_kernel_what_hangs(sockets: Path) -> None:
    """SysRq-w (blocked tasks) and SysRq-l (processors) by the keyboard. Raises OSError when QEMU is gone."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(sockets / "monitor"))
        for key in "wl":
            monitor.sendall(f"sendkey alt-sysrq-{key}\n".encode())
            time.sleep(2)


def open_port(sockets: Path, port: int, configure: Callable[[str], bool]) -> int:
    """Plugs a network card in, if that has not been done: over it loopback reaches `port` of the guest.

    `configure` runs a shell script there and says whether it succeeded. Returns the port on loopback.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ours: int = probe.getsockname()[1]
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(sockets / "monitor"))
        monitor.sendall(b"netdev_add user,id=lan,restrict=on\n")
        monitor.sendall(b"device_add virtio-net-pci,id=card,netdev=lan\n")
        monitor.sendall(f"hostfwd_add lan tcp:127.0.0.1:{ours}-{GUEST_ADDRESS}:{port}\n".encode())
        if not configure(CONFIGURE_NETWORK):
            raise host.VmError("the guest's network card does not come up")
    return ours


def hardware() -> list[str]:
    return (
        f"-accel {ACCELERATOR} -cpu {CPU} -smp 2,sockets=1,cores=2 -m 4096 "
        "-nodefaults -no-user-config -display none -no-reboot -device virtio-rng-pci"
    ).split()


def kernel(image: Image) -> list[str]:
    return ["-kernel", f"{image.kernel}", "-initrd", f"{image.initrd}", "-append", KERNEL_COMMAND_LINE]


def root_disk(image: Image, overlay: Path | None) -> list[str]:
    if overlay is None:
        drive = f"file={option(image.root)},if=virtio,format=raw,snapshot=on,cache=unsafe"
        return ["-drive", f"{drive},{SHARED}"]
    if not overlay.exists():
        overlay.parent.mkdir(parents=True, exist_ok=True)
        create = [host.program("qemu-img"), "create", "-q", "-f", "qcow2"]
        subprocess.run([*create, "-b", str(image.root), "-F", "raw", str(overlay)], check=True)
    drive = f"file={option(overlay)},if=virtio,format=qcow2,cache=unsafe"
    return ["-drive", f"{drive},backing.{SHARED}"]


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
