"""Linux kernels as programs: Debian's user-mode-linux of each suite, unpacked once into the cache."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vm import apt, host, pocket

PACKAGE = "user-mode-linux"
LOADER = "ld-linux-x86-64.so.2"
CPUINFO = Path("/proc/cpuinfo")
ANY_REGISTERS = (6, 13)


@dataclass(frozen=True)
class Kernel:
    """One unpacked kernel; read-only for us."""

    directory: Path

    @property
    def program(self) -> Path:
        return self.directory / "linux.uml"

    @property
    def modules(self) -> Path:
        """What the guest has at /lib/modules: one directory, named after the kernel's release."""
        return self.directory / "lib" / "modules"

    @property
    def release(self) -> str:
        return next(self.modules.iterdir()).name

    def check_host(self) -> None:
        """Raises VmError when it cannot run here: before 6.13 it restores the registers of its processes
        from a buffer that is too small for those of AMX, and the host answers EFAULT."""
        version = tuple(map(int, self.release.split(".")[:2]))
        if version < ANY_REGISTERS and " amx_tile " in CPUINFO.read_text():
            raise host.VmError(
                f"Linux {self.release} as a program does not run on this processor, which has AMX: "
                "choose --machine uml (a newer kernel), or QEMU's for the same kernel"
            )


def ensure(suite: str) -> Kernel:
    """The kernel of Debian `suite`, downloaded (36 MB) when the cache has none."""
    kernel = Kernel(host.CACHE / "kernels" / suite)
    if not kernel.directory.is_dir():
        with host.locked(host.CACHE / f"kernel-{suite}.lock", f"fetching the kernel of {suite}"):
            if not kernel.directory.is_dir():
                fetch(suite, kernel.directory)
    return kernel


def fetch(suite: str, target: Path) -> None:
    """Unpacks into a directory beside `target` and renames: a kernel is whole or absent."""
    host.say(f"fetching the kernel of Debian {suite} as a program ({PACKAGE})")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".fetching-", dir=target.parent))
    try:
        archive = apt.Archive(suite, work / "apt")
        (package,) = archive.download(work / "deb", PACKAGE)
        apt.unpack(package, work / "root")
        kernel = Kernel(work / "kernel")
        lay_out(work / "root", kernel)
        if not runs(kernel):
            bring_libc(archive, work, kernel, target)
        kernel.directory.rename(target)
    finally:
        shutil.rmtree(work)


def lay_out(root: Path, kernel: Kernel) -> None:
    """From the package's files to ours: the program, and its modules with their index."""
    kernel.modules.mkdir(parents=True)
    (root / "usr/bin/linux.uml").rename(kernel.program)
    (modules,) = (root / "usr/lib/uml/modules").iterdir()
    modules.rename(kernel.modules / modules.name)
    depmod = [*(pocket.command("depmod")), "-b", str(kernel.directory), modules.name]
    subprocess.run(depmod, check=True)


def runs(kernel: Kernel) -> bool:
    """Whether the host's C library is new enough for it."""
    asked = subprocess.run([kernel.program, "--version"], capture_output=True, check=False)
    return asked.returncode == 0


def bring_libc(archive: apt.Archive, work: Path, kernel: Kernel, final: Path) -> None:
    """A kernel built against a newer C library than the host's gets that library beside it.

    It executes itself anew at its start, so the loader is named in the program, not on the command line.
    """
    (package,) = archive.download(work / "libc", "libc6")
    apt.unpack(package, kernel.directory / "libc")
    loader = next(path for path in (kernel.directory / "libc").glob(f"**/{LOADER}") if not path.is_symlink())
    libraries = final / loader.parent.relative_to(kernel.directory)
    options = ["--set-interpreter", str(libraries / loader.name), "--set-rpath", str(libraries)]
    subprocess.run([*pocket.command("patchelf"), *options, str(kernel.program)], check=True)
