"""User-mode Linux as the machine: a kernel that is a program, at the host's own speed, on one processor.

It needs neither KVM nor root. Its processes are processes of the host, which :mod:`vm.warden` ends together.
"""

import os
import shutil
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from vm import host
from vm.image import Image
from vm.kernels import Kernel

MEMORY_MIB = 2048

# The agent's line is the second console. oops=panic: going on after an oops means to hang. seccomp=on: from
# Linux 6.16 system calls come by signal instead of ptrace, twice as fast; earlier kernels hand the word on to
# init.
KERNEL_COMMAND_LINE = (
    "root=/dev/ubda rw init=/usr/local/sbin/uml-init vm.agent=/dev/tty1 seccomp=on oops=panic "
    "sysrq_always_enabled=1 fsck.mode=skip systemd.show_status=false"
)
# Half of the boot: devices that were there before udevd are of no interest to it here, nor to anybody.
IDLE_UNITS = "systemd-udev-trigger rbdmap nvmf-autoconnect lvm2-monitor systemd-binfmt systemd-random-seed"
IDLE_UNITS += " systemd-logind systemd-sysusers modprobe@drm"
MCONSOLE_MAGIC, MCONSOLE_VERSION, MCONSOLE_ROOM = 0xCAFEBABE, 2, 512  # arch/um/drivers/mconsole.h


@dataclass(frozen=True)
class Network:
    """A machine's card in a rack."""

    namespace: int
    """Process whose network namespace has the tap."""
    tap: str


def command(
    kernel: Kernel, image: Image, sockets: Path, out: Path, *, disk: Path | None, network: Network | None
) -> list[str]:
    """The command line of a machine that boots `image` with `kernel`, in a rack's `network` if there is
    one.
    """
    words = kernel_process(kernel, sockets, out, MEMORY_MIB)
    words += [*KERNEL_COMMAND_LINE.split(), root_disk(image, sockets, disk)]
    words += [f"systemd.mask={unit}.service" for unit in IDLE_UNITS.split()]
    directories = {"MODULES": kernel.modules, "CHECKOUT": host.CHECKOUT, "SHARE": out / "share"}
    words += [f"VM_{name}={path.resolve()}" for name, path in directories.items()]
    if network is not None:  # gro: else the driver's buffers are too small for the frames of its peers
        words = [*entered(network), *words, f"vec0:transport=tap,ifname={network.tap},depth=64,gro=1"]
    return words


def kernel_process(kernel: Kernel, sockets: Path, out: Path, memory_mib: int) -> list[str]:
    """The begin of the command line: :mod:`vm.warden`, the kernel, its memory and its two lines."""
    warden = [sys.executable, "-m", "vm.warden", str(sockets), str(out)]
    leash = ["setpriv", "--pdeathsig", "KILL", "env", f"TMPDIR={memory_directory(sockets, memory_mib)}"]
    lines = ["con=null", "con0=fd:{console},fd:{console}", "con1=fd:{agent},fd:{agent}"]
    management = [f"uml_dir={sockets}", "umid=uml"]
    return [*warden, *leash, str(kernel.program), f"mem={memory_mib}M", *lines, *management]


def entered(network: Network) -> list[str]:
    """The prefix that runs a command in the rack's namespaces."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", f"--target={network.namespace}", "--net", *user]


def memory_directory(sockets: Path, memory_mib: int) -> Path:
    """Where the guest's memory lies as a file without a name: in memory, if there is room for it."""
    shm = Path("/dev/shm")
    room = shutil.disk_usage(shm).free if shm.is_dir() else 0
    return shm if room > memory_mib << 20 else sockets


def root_disk(image: Image, sockets: Path, disk: Path | None) -> str:
    """The image, read only, and its changes in a file of their own, which names the image."""
    if disk is None:
        disk = sockets / "root.cow"
    else:
        disk.parent.mkdir(parents=True, exist_ok=True)
    return f"ubd0={disk.resolve()},{image.root.resolve()}"


def ask_kernel_what_hangs(sockets: Path) -> None:
    """SysRq-w (blocked tasks) by the management console. Raises OSError when the machine is gone."""
    request = b"sysrq w"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(sockets / f"asks-{os.getpid()}"))  # the answer comes to this name
        line.settimeout(10)
        line.connect(str(sockets / "uml" / "mconsole"))
        head = struct.pack("=III", MCONSOLE_MAGIC, MCONSOLE_VERSION, len(request))
        line.send(head + request.ljust(MCONSOLE_ROOM, b"\0"))
        line.recv(4096)
