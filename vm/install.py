"""Our daemon in the guest: installed with pip from a wheel, or that and a link to the synchronised source."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vm import host
from vm.machine import Machine

GUEST_SCRIPTS = "/host/checkout/vm/guest"
SOURCE = "/src"
"""The guest's copy of the checkout, where commands start."""


def wheel(fingerprint: str) -> Path:
    """Our wheel, built from the checkout when the cache has none of this fingerprint."""
    directory = host.CACHE / "wheels" / fingerprint
    with host.locked(host.CACHE / "wheel.lock", "building our wheel"):
        if not directory.is_dir():
            build_wheel(directory)
    return next(directory.glob("*.whl"))


def build_wheel(directory: Path) -> None:
    """Builds beside `directory` and renames: it has the whole wheel, or does not exist."""
    host.say("building our wheel")
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=directory.parent))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work)]
    if subprocess.run([*build, str(host.CHECKOUT)], stdout=sys.stderr, check=False).returncode != 0:
        shutil.rmtree(work)
        raise host.VmError(f"building the wheel of {host.CHECKOUT} failed")
    work.replace(directory)


def of_source() -> str:
    """Fingerprint of all that goes into a wheel."""
    source = (p for p in (host.CHECKOUT / "src").rglob("*") if p.is_file() and p.suffix != ".pyc")
    return fingerprint(host.CHECKOUT / "pyproject.toml", host.CHECKOUT / "README.md", *source)


def of_packaging() -> str:
    """Fingerprint of what makes a live installation go stale: names and entry points."""
    return fingerprint(host.CHECKOUT / "pyproject.toml")


def fingerprint(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(host.CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def synchronise(machine: Machine) -> None:
    """The checkout as it is now into the guest's /src."""
    outcome = machine.run([f"{GUEST_SCRIPTS}/sync.sh"], timeout=host.GENEROUS)
    if outcome.status != 0:
        raise host.VmError(f"copying the checkout into the guest failed {outcome.note}")


def install(machine: Machine, *, live: bool = False) -> None:
    """Synchronises the checkout, and installs the wheel with pip into the guest's /opt/tcmu-runner."""
    started = time.monotonic()
    synchronise(machine)
    ours = wheel(of_packaging() if live else of_source())
    shutil.copy(ours, machine.share)
    arguments = [f"/host/share/{ours.name}", *(["live"] if live else [])]
    outcome = machine.run([f"{GUEST_SCRIPTS}/install.sh", *arguments], timeout=host.GENEROUS)
    if outcome.status != 0:
        raise host.VmError(f"installing our wheel in the guest failed {outcome.note}")
    host.say(f"daemon installed in {time.monotonic() - started:.0f} s")
