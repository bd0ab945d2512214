"""The machines there are: which kernel, on which release of Debian, and what carries it."""

import os
from dataclasses import dataclass
from pathlib import Path

from vm import host, image, kernels, qemu, uml

# Its system calls come by signal: a process starts in half the time of 6.1. It runs on every processor, too.
NEWEST = "sid"


@dataclass(frozen=True)
class Kind:
    """One sort of machine."""

    name: str
    release: str
    """Suite of its image, a key of :data:`vm.image.RELEASES`."""
    kernel: str | None = None
    """Suite of the user-mode Linux. None: QEMU boots the image's own kernel, on two processors."""

    def command(self, sockets: Path, out: Path, disk: Path | None, network: uml.Network | None) -> list[str]:
        """The command line that runs it. Builds the image and fetches the kernel if need be."""
        if self.kernel is not None:
            kernel = kernels.ensure(self.kernel)
            kernel.check_host()
            root = image.ensure(self.release)
            return uml.command(kernel, root, sockets, out, disk=disk, network=network)
        if network is not None:
            raise host.VmError(f"{self.name} takes no part in a rack; take one of: {', '.join(RACKABLE)}")
        root = image.ensure(self.release)
        return qemu.command(root, sockets, out, disk)

    def ask_kernel_what_hangs(self, sockets: Path) -> None:
        """Stacks of all blocked tasks onto the console. Raises OSError when the machine is gone."""
        (qemu if self.kernel is None else uml).ask_kernel_what_hangs(sockets)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("uml-6.1", "bookworm", "bookworm"),
        Kind("uml-6.12", "trixie", "trixie"),
        Kind("uml-7.2", "sid", NEWEST),
        Kind("uml", "bookworm", NEWEST),
        Kind("uml-13", "trixie", NEWEST),
        Kind("qemu-6.1", "bookworm"),
        Kind("qemu-6.12", "trixie"),
    )
}
# Where a test wants a kernel and not a machine: the first of them that runs on this host.
LINUX = {
    "linux-6.1": ("uml-6.1", "qemu-6.1"),
    "linux-6.12": ("uml-6.12", "qemu-6.12"),
    "linux-7.2": ("uml-7.2",),
}
NAMES = (*KINDS, *LINUX)
RACKABLE = [name for name, kind in KINDS.items() if kind.kernel]
QEMU = "qemu-6.1"
# Debian 12 on the newest kernel.
DEFAULT = os.environ.get("TCMU_VM", "uml")


def resolve(name: str) -> str:
    """The machine that `name`, a machine or a kernel, means on this host. May fetch a kernel to find out."""
    *preferred, last = LINUX.get(name, (name,))
    return next((each for each in preferred if _runs_here(KINDS[each])), last)


def _runs_here(kind: Kind) -> bool:
    try:
        if kind.kernel is not None:
            kernels.ensure(kind.kernel).check_host()
    except host.VmError as error:
        host.say(f"{kind.name}: {error}")
        return False
    return True
