"""`qcow` in a worker process without privileges, whose child serves the image."""

import os
import signal
from pathlib import Path

from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import attempt, command, eventually
from support.disk import read, write
from support.filesystem import DIED, HELD_UP
from support.fio import Job, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback
from support.sg import raw

STORAGE_DAEMON = "qemu-storage-da"  # comm has 15 bytes
SIZE = 64 * MIB


def image_over_a_base(directory: Path) -> Path:
    base, image = directory / "base.qcow2", directory / "disk.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", str(base), str(SIZE))
    command("qemu-io", "-c", f"write -P 0x11 0 {SIZE}", str(base))
    command("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(image))
    image.chmod(0o600)
    os.chown(image, 65534, 65534)  # as virtualization leaves it: not root's
    return image


def replaced(pids: list[int], name: str) -> bool:
    return len(processes.named(name)) == 1 and processes.named(name) != pids


def test_a_qcow2_image_across_deaths_of_its_worker_and_its_storage_daemon(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, expected_log: ExpectedLog,
    tmp_path: Path,
) -> None:  # fmt: skip
    """No command fails; what is not written keeps the base's content; no process is left over."""
    expected_log(DIED)
    expected_log(HELD_UP, optional=True)
    expected_log("lost the connection to its storage")
    expected_log("its qemu-storage-daemon failed: .*: starting another")
    image = image_over_a_base(tmp_path)
    backstore = make_backstore(f"qcow/{image}", SIZE)
    disk = loopback.add(backstore)
    worker = f"{processes.WORKER}uio{processes.minor_of(backstore.name)}"
    with verifying(Job(disk, 8 * MIB, depth=8)) as fio:
        for name in (worker, STORAGE_DAEMON, worker):
            victims = processes.named(name)
            os.kill(victims[0], signal.SIGKILL)
            eventually(f"a new {name}", lambda: replaced(victims, name), 60)  # noqa: B023 - used at once
            fio.progress(50)
    write(disk, 32 * MIB + 4096, b"\x22" * 4096)
    assert read(disk, 32 * MIB, 12288) == b"\x11" * 4096 + b"\x22" * 4096 + b"\x11" * 4096
    loopback.remove()
    backstore.remove()
    assert processes.named(STORAGE_DAEMON) == []
    assert attempt("qemu-img", "check", str(image)).status in (0, 3)  # clusters may be lost to a kill


def test_an_image_that_grows(
    daemon: Daemon, make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    image = tmp_path / "disk.qcow2"
    command("qemu-img", "create", "-q", "-f", "qcow2", str(image), str(SIZE))
    backstore: Backstore = make_backstore(f"qcow/{image}", SIZE)
    disk = loopback.add(backstore)
    write(disk, SIZE - 4096, b"\x22" * 4096)
    backstore.store("attrib/dev_size", 2 * SIZE)
    for _ in range(2):  # the first one may end in UNIT ATTENTION
        raw(disk, "000000000000")
    (Path("/sys/block") / disk.name / "device/rescan").write_text("1")
    write(disk, 2 * SIZE - 4096, b"\x33" * 4096)
    assert read(disk, SIZE - 4096, 8192) == b"\x22" * 4096 + bytes(4096)
    assert f"({2 * SIZE} bytes)" in command("qemu-img", "info", "-U", str(image))


def test_a_missing_image_is_named(daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path) -> None:
    expected_log("make an image with qemu-img create -f qcow2")
    backstore = Backstore.create("vol0", f"qcow/{tmp_path}/none.qcow2", SIZE)
    try:
        backstore.enable()
    except OSError as error:
        assert error.errno == 2  # ENOENT
    else:
        raise AssertionError("it was enabled")
