"""A small Debian root that any user can make: packages unpacked into a directory, without their scripts.

It serves the demonstration, and lends its programs to a host that has not got them.
"""

import os
import shutil
import tempfile
import time
import zlib
from pathlib import Path

from vm import apt, host

PACKAGES = "python3 bash dash coreutils util-linux mount kmod udev e2fsprogs diffutils findutils grep sed"
PACKAGES += " procps libc-bin patchelf"
MERGED = ("bin", "sbin", "lib", "lib64")  # directories of / that are links into /usr
MADE = ["proc", "sys", "dev", "run", "tmp", "var", "mnt", "etc", "usr/local", "usr/lib/modules"]
MADE += ["host/checkout", "host/out", "host/pycache"]


def ensure() -> Path:
    """The root directory, made of the host's own release (seconds, 40 MB) when the cache has none."""
    suite = apt.host_suite()
    root = host.CACHE / f"pocket-{suite}-{zlib.crc32(PACKAGES.encode()):08x}"
    if not root.is_dir():
        with host.locked(host.CACHE / "pocket.lock", "making the small root"):
            if not root.is_dir():
                make(suite, root)
    return root


def bytecode() -> Path:
    """Where its Python keeps compiled modules: it is the packages' scripts that compile them elsewhere."""
    directory = host.CACHE / f"pocket-{apt.host_suite()}.pycache"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def make(suite: str, root: Path) -> None:
    """Makes it in a directory beside `root` and renames: it is whole or absent."""
    host.say(f"unpacking a small Debian {suite} into {root}; this happens once")
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=root.parent))
    try:
        tree = work / "root"
        for name in MERGED:
            (tree / "usr" / name).mkdir(parents=True)
            (tree / name).symlink_to(f"usr/{name}")
        for package in apt.Archive(suite, work / "apt").download_with_dependencies(*PACKAGES.split()):
            apt.unpack(package, tree)
        for name in MADE:
            (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (tree / "etc/group").write_text("root:x:0:\n")
        tree.rename(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    host.say(f"unpacked in {time.monotonic() - started:.0f} s")


def command(name: str) -> list[str]:
    """The words that run program `name` on the host: its own, or the one of the small root."""
    if ours := host.program(name):
        return [ours]
    root = ensure()
    places = [root / "usr" / directory / name for directory in ("sbin", "bin")]
    found = next(path for path in places if path.is_symlink() or path.exists())
    if found.is_symlink():
        inside = Path("/") / found.parent.relative_to(root) / found.readlink()
        found = root / inside.relative_to("/")
    libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    under_its_name = ["bash", "-c", 'exec -a "$0" "$@"', name, str(found)]
    return ["env", f"LD_LIBRARY_PATH={libraries}", *under_its_name]
