"""The guest's root file system: built once from the host's own Debian sources, then kept in the cache."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vm import apt, host

SUITE = "bookworm"
SIZE = "6G"
HERE = Path(__file__).parent

SYSTEM = "linux-image-amd64 systemd-sysv udev dbus kmod procps iproute2 lz4 rsync less psmisc logrotate"
PYTHON_AND_LIO = "python3 python3-venv python3-pip python3-gi python3-dbus python3-rtslib-fb targetcli-fb"
LIBRARIES = "python3-dbus-fast python3-rich python3-shtab python3-prometheus-client"
LIBRARIES += " python3-zstandard python3-lmdb python3-argon2 python3-cryptography librbd1 libgfapi0"
PEERS = "tcmu-runner ceph-mon ceph-osd ceph-common cryptsetup-bin dmsetup nbdkit qemu-system-common"
PEERS += " qemu-block-extra"
INSTRUMENTS = "open-iscsi libiscsi-bin sg3-utils lsscsi fio qemu-utils xfsprogs e2fsprogs strace keyutils"
INSTRUMENTS += " libglib2.0-bin curl"
PACKAGES = f"{SYSTEM} {PYTHON_AND_LIO} {LIBRARIES} {PEERS} {INSTRUMENTS}".split()

# What the tests need in the guest's Python 3.11, whatever Python the host has. All are pure Python.
TEST_TOOLS = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")

# The targetcli that PyPI has, beside Debian's: /opt/targetcli. Its other dependencies are Debian's.
TARGETCLI = ("targetcli==3.0.2", "rtslib-fb==2.2.4", "configshell-fb==2.0.3")


@dataclass(frozen=True)
class Image:
    """Files of one built image; all are read-only for us."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"


def ensure() -> Image:
    """The image for this checkout's package list and customisation; builds it (minutes) when it is absent."""
    image = Image(host.CACHE / fingerprint())
    if not image.directory.is_dir():
        with host.locked(host.CACHE / "build.lock", "building the image"):
            if not image.directory.is_dir():
                build(image)
    return image


def fingerprint() -> str:
    """Names an image by everything it is made from, except the state of Debian's archive."""
    digest = hashlib.sha256(repr((SUITE, SIZE, PACKAGES, TEST_TOOLS, TARGETCLI)).encode())
    parts = [HERE / "customize.sh", *sorted(p for p in (HERE / "rootfs").rglob("*") if p.is_file())]
    for part in parts:
        digest.update(f"{part.relative_to(HERE)}\0".encode() + part.read_bytes())
    return digest.hexdigest()[:16]


def build(image: Image) -> None:
    """Builds in a temporary directory beside the final one and renames: an image is whole or absent."""
    host.require()
    became_root = host.as_root()
    host.say(f"building the Debian image in {image.directory}; this happens once and takes some minutes")
    started = time.monotonic()
    for unfinished in host.CACHE.glob(".building-*"):
        subprocess.run([*became_root, "rm", "-rf", "--one-file-system", str(unfinished)], check=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=host.CACHE))
    try:
        bootstrap(became_root, work)
        pack(became_root, work)
        (work / "image").rename(image.directory)
    finally:
        subprocess.run([*became_root, "rm", "-rf", "--one-file-system", str(work)], check=True)
    host.say(f"image built in {time.monotonic() - started:.0f} s")


def bootstrap(became_root: list[str], work: Path) -> None:
    """Debian's packages into `work`/root, customised."""
    wheels = work / "wheels"
    host.say("fetching the test tools' wheels")
    fetch(wheels / "tests", *TEST_TOOLS)
    fetch(wheels / "targetcli", "--no-deps", *TARGETCLI)
    sources = apt.sources(SUITE, work)
    host.say(f"installing {len(PACKAGES)} Debian packages and what they need")
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in ("man", "locale")]
    options += [f'--customize-hook={shlex.quote(str(HERE / "customize.sh"))} "$1"']
    mmdebstrap = [*became_root, "env", f"WHEELS={wheels}", host.program("mmdebstrap"), *options]
    step([*mmdebstrap, SUITE, str(work / "root"), *sources])


def fetch(directory: Path, *wanted: str) -> None:
    """Pure wheels for the guest's Python."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(directory), *wanted]
    step([*download, "--only-binary=:all:", "--implementation=py", "--abi=none", "--python-version=3.11"])


def pack(became_root: list[str], work: Path) -> None:
    """The directory `work`/root as files that QEMU boots, in `work`/image."""
    target = Image(work / "image")
    target.directory.mkdir()
    host.say("making the disk image")
    for source, copy in (("vmlinuz", target.kernel), ("initrd.img", target.initrd)):
        step([*became_root, "cp", "--dereference", str(work / "root" / source), str(copy)])
    mkfs = [host.program("mkfs.ext4"), "-q", "-L", "root", "-d", str(work / "root"), str(target.root), SIZE]
    step([*became_root, *mkfs])
    step([*became_root, "chown", f"{os.getuid()}:{os.getgid()}", *map(str, target.directory.iterdir())])


def step(command: list[str]) -> None:
    """One command of the build. Its output goes to stderr; a failure ends the build."""
    if subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise host.VmError(f"building the image failed in: {' '.join(command)}")


def remove_others(keep: Image) -> None:
    """Removes images that no longer match the checkout (each is about a gigabyte)."""
    for found in host.CACHE.glob("*/root.img"):
        if found.parent != keep.directory:
            host.say(f"removing the outdated image {found.parent}")
            shutil.rmtree(found.parent)
