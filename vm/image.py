"""The guest's root file system, one for each release of Debian: built once, then kept in the cache."""

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

SIZE = "6G"
HERE = Path(__file__).parent

SYSTEM = "systemd-sysv udev dbus kmod procps iproute2 lz4 rsync less psmisc logrotate ethtool"
PYTHON_AND_LIO = "python3 python3-venv python3-pip python3-gi python3-dbus python3-rtslib-fb targetcli-fb"
LIBRARIES = "python3-dbus-fast python3-rich python3-shtab python3-prometheus-client"
LIBRARIES += " python3-zstandard python3-argon2 python3-cryptography"
PEERS = "tcmu-runner cryptsetup-bin dmsetup"
INSTRUMENTS = (
    "open-iscsi multipath-tools libiscsi-bin sg3-utils sdparm lsscsi fio qemu-utils qemu-block-extra"
)
INSTRUMENTS += " xfsprogs e2fsprogs strace keyutils libglib2.0-bin curl"
PACKAGES = f"{SYSTEM} {PYTHON_AND_LIO} {LIBRARIES} {PEERS} {INSTRUMENTS}".split()
# The kernel that QEMU boots, and the servers of the tests of storages: the whole of the tests runs on one
# release.
WHOLE = ["linux-image-amd64", "librbd1", "libgfapi0", "ceph-mon", "ceph-osd", "ceph-common", "nbdkit"]
WHOLE += ["qemu-system-common"]

# What the tests need in the guest's Python, whatever Python the host has. All are pure Python.
TEST_TOOLS = ("pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.5", "hypothesis>=6.100")

# The targetcli that PyPI has, beside Debian's: /opt/targetcli. Its other dependencies are Debian's.
TARGETCLI = ("targetcli==3.0.2", "rtslib-fb==2.2.4", "configshell-fb==2.0.3")


@dataclass(frozen=True)
class Release:
    """A release of Debian that the tests run on."""

    suite: str
    python: str
    """Its Python, for wheels."""
    packages: tuple[str, ...]

    def fingerprint(self) -> str:
        """Names an image by everything it is made from, except the state of Debian's archive."""
        digest = hashlib.sha256(repr((self, SIZE, TEST_TOOLS, TARGETCLI)).encode())
        parts = [HERE / "customize.sh", *sorted(p for p in (HERE / "rootfs").rglob("*") if p.is_file())]
        for part in parts:
            digest.update(f"{part.relative_to(HERE)}\0".encode() + part.read_bytes())
        return digest.hexdigest()[:16]


RELEASES = {
    release.suite: release
    for release in (
        Release("bookworm", "3.11", (*PACKAGES, *WHOLE)),
        Release("trixie", "3.13", (*PACKAGES, "linux-image-amd64")),
        Release("sid", "3.14", tuple(PACKAGES)),
    )
}


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


def ensure(suite: str) -> Image:
    """The image of Debian `suite` as this checkout describes it; building it takes minutes."""
    release = RELEASES[suite]
    image = Image(host.CACHE / f"{suite}-{release.fingerprint()}")
    if not image.directory.is_dir():
        with host.locked(host.CACHE / f"build-{suite}.lock", f"building the image of {suite}"):
            if not image.directory.is_dir():
                build(release, image)
    return image


def build(release: Release, image: Image) -> None:
    """Builds in a temporary directory beside the final one and renames: an image is whole or absent."""
    host.require(("mmdebstrap", "mkfs.ext4"))
    became_root = host.as_root()
    host.say(f"building the image of Debian {release.suite} in {image.directory}; this takes minutes, once")
    started = time.monotonic()
    for unfinished in host.CACHE.glob(f".building-{release.suite}-*"):
        subprocess.run([*became_root, "rm", "-rf", "--one-file-system", str(unfinished)], check=True)
    work = Path(tempfile.mkdtemp(prefix=f".building-{release.suite}-", dir=host.CACHE))
    try:
        bootstrap(release, became_root, work)
        pack(became_root, work)
        (work / "image").rename(image.directory)
    finally:
        subprocess.run([*became_root, "rm", "-rf", "--one-file-system", str(work)], check=True)
    host.say(f"image of Debian {release.suite} built in {time.monotonic() - started:.0f} s")


def bootstrap(release: Release, became_root: list[str], work: Path) -> None:
    """Debian's packages into `work`/root, customised."""
    wheels = work / "wheels"
    host.say("fetching the test tools' wheels")
    fetch(release, wheels / "tests", *TEST_TOOLS)
    fetch(release, wheels / "targetcli", "--no-deps", *TARGETCLI)
    sources = apt.sources(release.suite, work)
    host.say(f"installing {len(release.packages)} Debian packages and what they need")
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(release.packages)}"]
    options += apt.freshness()
    options += [f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in ("man", "locale")]
    options += [f'--customize-hook={shlex.quote(str(HERE / "customize.sh"))} "$1"']
    mmdebstrap = [*became_root, "env", f"WHEELS={wheels}", host.program("mmdebstrap"), *options]
    step([*mmdebstrap, release.suite, str(work / "root"), *sources])


def fetch(release: Release, directory: Path, *wanted: str) -> None:
    """Pure wheels for the guest's Python."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(directory), *wanted]
    version = f"--python-version={release.python}"
    step([*download, "--only-binary=:all:", "--implementation=py", "--abi=none", version])


def pack(became_root: list[str], work: Path) -> None:
    """The directory `work`/root as a disk, with the kernel that QEMU boots beside it, in `work`/image."""
    target = Image(work / "image")
    target.directory.mkdir()
    host.say("making the disk image")
    for source, copy in (("vmlinuz", target.kernel), ("initrd.img", target.initrd)):
        if (work / "root" / source).is_symlink():
            step([*became_root, "cp", "--dereference", str(work / "root" / source), str(copy)])
    mkfs = [host.program("mkfs.ext4"), "-q", "-L", "root", "-d", str(work / "root"), str(target.root), SIZE]
    step([*became_root, *mkfs])
    step([*became_root, "chown", f"{os.getuid()}:{os.getgid()}", *map(str, target.directory.iterdir())])


def step(command: list[str]) -> None:
    """One command of the build. Its output goes to stderr; a failure ends the build."""
    if subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise host.VmError(f"building the image failed in: {' '.join(command)}")


def remove_others() -> None:
    """Removes images that no longer match the checkout (each is about a gigabyte)."""
    kept = {f"{release.suite}-{release.fingerprint()}" for release in RELEASES.values()}
    for found in host.CACHE.glob("*/root.img"):
        if found.parent.name not in kept:
            host.say(f"removing the outdated image {found.parent}")
            shutil.rmtree(found.parent)
