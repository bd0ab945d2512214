"""One LUN at a time has a file, and the refusal of the second one says which that is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from support.clock import ManualClock

from tcmu_runner import Device
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.errors import TcmuError
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers import claims
from tcmu_runner.handlers.file import FileHandler

SIZE = 1 << 20
LATE = 4.0  # seconds for which the last worker has its lock: more than a new LUN waits


@pytest.fixture(autouse=True)
def empty_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(claims, "UIO", tmp_path / "uio")


def lun(tmp_path: Path, number: int, name: str, config: str) -> None:
    """A device of the kernel's."""
    entry = tmp_path / "uio" / f"uio{number}"
    entry.mkdir(parents=True)
    (entry / "name").write_text(f"tcm-user/{number}/{name}/{config}\n")


def disk(config: str, name: str = "user_0/t0", origin: Origin = Origin.NEW) -> FileHandler:
    """Opened by a clock that jumps; waits otherwise for another's lock."""
    return FileHandler.open(Device(name, SIZE, origin=origin, clock=ManualClock()), FileHandler.parse(config))


def refusal(config: str) -> str:
    with pytest.raises(OSError, match="is in use by") as error:
        disk(config)
    assert error.value.errno == errno.EBUSY
    return str(error.value.strerror)


def test_the_second_one_is_refused_and_told_which_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    first = disk(str(path), "user_3/other")
    lun(tmp_path, 0, "t0", f"file/{path}")
    lun(tmp_path, 1, "x", "file//srv/another.img")
    lun(tmp_path, 3, "other", f"vault/{path};direct")
    assert refusal(str(path)) == (
        f"{path} is in use by user_3/other, and two that write to it destroy each other's data: remove that "
        "one, or name another storage, or add ;shared to both"
    )
    assert path.stat().st_size == SIZE
    first.close()
    disk(str(path)).close()


def test_by_another_name_it_is_the_same_file(tmp_path: Path) -> None:
    first = disk(f"{tmp_path}/a.img")
    (tmp_path / "b.img").hardlink_to(tmp_path / "a.img")
    (tmp_path / "c.img").symlink_to(tmp_path / "a.img")
    refusal(f"{tmp_path}/b.img")
    refusal(f"{tmp_path}/c.img")
    first.close()


def test_outside_of_the_kernel_the_process_is_told(tmp_path: Path) -> None:
    first = disk(f"{tmp_path}/a.img")
    name = Path("/proc/self/comm").read_text().strip()
    assert f"is in use by process {os.getpid()} ({name}), and" in refusal(f"{tmp_path}/a.img")
    first.close()


def test_a_lock_that_a_dead_process_left_to_its_child_has_no_known_holder(tmp_path: Path) -> None:
    """As a qemu-storage-daemon's that still writes."""
    path = tmp_path / "a.img"
    path.touch()
    with Popen(["flock", path, "cat"], stdin=PIPE, stdout=PIPE, start_new_session=True) as locker:
        assert locker.stdin is not None
        assert locker.stdout is not None
        locker.stdin.write(b"x")
        locker.stdin.flush()
        locker.stdout.read(1)  # it has the lock, and cat runs
        assert claims.holder(path, "user_0/t0") == f"process {locker.pid} (flock)"
        locker.kill()
        locker.wait()
        assert claims.holder(path, "user_0/t0") == ""
        assert "is in use by another LUN or process" in refusal(str(path))


def test_readers_are_many_beside_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(bytes(SIZE))
    readers = [disk(f"{path};read_only") for _ in range(3)]
    refusal(str(path))
    for reader in readers:
        reader.close()
    writer = disk(str(path))
    refusal(f"{path};read_only")
    writer.close()


def test_who_means_it_says_so_for_each(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    one, two = disk(f"{path};shared"), disk(f"{path};shared")
    two.write([memoryview(bytearray(512))], 0)
    refusal(str(path))
    one.close()
    two.close()
    alone = disk(str(path))
    refusal(f"{path};shared")
    alone.close()


def opened(path: Path, *layers: Layer) -> Lun:
    registry = Registry()
    registry.load_entry_points()
    registry.put(registry.definition("stack", "file", layers))
    return Lun.open(
        Description(f"user_0/{os.urandom(4).hex()}", f"stack/{path}", SIZE), registry, clock=ManualClock()
    )


def test_below_overlays_a_file_is_only_read(tmp_path: Path) -> None:
    """Many machines over one golden image. A commit writes to it, and may not while others read it."""
    path, cow = tmp_path / "golden.img", Layer.parse("cow", {"directory": str(tmp_path)})
    path.write_bytes(bytes(SIZE))
    one, two = opened(path, cow), opened(path, cow)
    refusal(str(path))
    handler = one.stack.handler
    assert isinstance(handler, FileHandler)
    with pytest.raises(OSError, match="is in use by"):
        handler.write([memoryview(bytearray(512))], 0)
    two.close()
    handler.write([memoryview(bytearray(512))], 0)
    refusal(f"{path};read_only")
    one.close()


def test_above_a_filter_that_writes_it_is_locked(tmp_path: Path) -> None:
    one = opened(tmp_path / "a.img", Layer.parse("offset", {"offset": 512}))
    with pytest.raises((OSError, TcmuError), match="is in use by"):
        opened(tmp_path / "a.img", Layer.parse("offset", {"offset": 4096}))
    one.close()


def test_a_worker_waits_for_the_lock_of_the_one_before_it(tmp_path: Path) -> None:
    """Which is dead as far as its socket tells, and still has it."""
    path = tmp_path / "a.img"
    ready, is_ready = os.pipe()
    child = os.fork()
    if child == 0:
        disk(str(path))
        os.write(is_ready, b"x")
        signal.pause()
    os.read(ready, 1)

    class Killing(ManualClock):
        """While the next worker waits, the one before it dies."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now >= 1000 + LATE:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

    clock = Killing()
    device = Device("user_0/t0", SIZE, origin=Origin.RUNNING, clock=clock)
    FileHandler.open(device, FileHandler.parse(str(path))).close()
    assert LATE <= clock.now - 1000 < claims.SECONDS[Origin.RUNNING]
    for descriptor in (ready, is_ready):
        os.close(descriptor)


def test_a_file_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_fd: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    disk(f"{tmp_path}/a.img").close()


def test_a_refused_lun_leaves_a_file_as_long_as_it_was(tmp_path: Path) -> None:
    first = disk(f"{tmp_path}/a.img")
    larger = Device("user_0/t1", 4 * SIZE, clock=ManualClock())
    with pytest.raises(OSError, match="is in use by"):
        FileHandler.open(larger, FileHandler.parse(f"{tmp_path}/a.img"))
    assert (tmp_path / "a.img").stat().st_size == SIZE
    first.close()
