"""Our Debian package on machines of its own, one for each release, which boot twice.

On the host; what is tested there is in tests/package.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vm import host, install, job
from vm.machine import Machine

PYTEST = ["python", "-m", "pytest", "-o", "timeout=900", "-p", "no:cacheprovider"]
SECONDS = 3000.0


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    built = subprocess.run(
        [host.CHECKOUT / "packaging/deb.sh", directory], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(built.stdout.strip())


@contextmanager
def booted(kind: str, disk: Path, package: Path, name: str) -> Iterator[Machine]:
    """The machine with this disk, with the package in reach, switched off in order at the end."""
    with Machine.boot(kind, host.new_out(name), disk=disk) as machine:
        shutil.copy(package, machine.share / "tcmu-runner.deb")
        machine.wait_for_boot()
        install.synchronise(machine)
        yield machine
        machine.power_off()


@pytest.mark.parametrize("kind", ["uml", "uml-13"], ids=["debian-12", "debian-13"])
def test_the_package(kind: str, package: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with booted(kind, disk, package, "package") as machine:
        assert job.run(machine, [*PYTEST, "tests/package"], SECONDS) == 0
        assert job.run(machine, [*PYTEST, "tests/package/before_reboot.py"], SECONDS) == 0
    with booted(kind, disk, package, "reboot") as machine:
        assert job.run(machine, [*PYTEST, "tests/package/after_reboot.py"], SECONDS) == 0
