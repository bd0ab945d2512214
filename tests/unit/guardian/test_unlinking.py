"""Who unlinks a LUN without a daemon, on a tree of files that imitates the kernel's."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel.tree import make_backstore, make_uio, write_all
from support.clock import ManualClock

from tcmu_runner.guardian import unlinking as module
from tcmu_runner.guardian.unlinking import UNLINK, answer_all, sleepers, stay, unlinking
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.uio import UioDevice
from tcmu_runner.lock import DaemonLock

WAITS = f"[<0>] blk_execute_rq+0x164/0x172\n[<0>] {UNLINK}+0x6f/0x89 [tcm_loop]\n"


class Kernel:
    """user_0/vol0 is LUN 0 of a loopback target, whose disk has left sysfs while `rm` waits."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.store = make_backstore(paths)
        make_uio(paths)
        self.members = "loopback/naa.5001405000000001/tpgt_1/lun_0\n\0"
        write_all(self.store / "alua/default_tg_pt_gp", {"members": self.members})
        write_all(paths.target / "loopback/naa.5001405000000001/tpgt_1", {"address": "0:0:1\n"})
        write_all(paths.proc / "4711", {"stack": WAITS, "comm": "rm\n"})
        self.actions: list[str] = []

    def disk(self, lun: int) -> None:
        (self.paths.scsi / f"0:0:1:{lun}").mkdir(parents=True)

    def watch(self, monkeypatch: pytest.MonkeyPatch, answers: int) -> None:
        """The kernel gives the flush up after so many resets of the ring."""
        written = Backstore._write

        def write(store: Backstore, name: str, text: str) -> None:
            written(store, name, text)
            self.actions.append(f"{name.removeprefix('action/')}={text}")
            if self.actions.count("reset_ring=2") == answers:
                (self.paths.proc / "4711/stack").unlink(missing_ok=True)

        monkeypatch.setattr(Backstore, "_write", write)
        monkeypatch.setattr(module, "UioDevice", OpenFile)


class OpenFile(UioDevice):
    """The node is an ordinary file."""

    @classmethod
    def open(cls, minor: int, paths: Paths = SYSTEM) -> "OpenFile":
        return cls(minor, os.open(paths.dev / f"uio{minor}", os.O_RDWR), paths)


@pytest.fixture
def kernel(paths: Paths) -> Kernel:
    return Kernel(paths)


@pytest.fixture
def lock(tmp_path: Path) -> Callable[[], DaemonLock]:
    return lambda: DaemonLock(tmp_path / "lock")


def test_whose_disk_is_half_removed(kernel: Kernel) -> None:
    (found,) = unlinking(kernel.paths)
    assert (found.name, found.shared) == ("user_0/vol0", False)
    assert sleepers(UNLINK, kernel.paths.proc) == ["rm (4711)"]


def test_a_disk_that_was_never_found_is_no_reason(kernel: Kernel) -> None:
    """Somebody has to wait."""
    (kernel.paths.proc / "4711/stack").write_text("[<0>] do_sys_poll+0x1/0x2\n")
    assert unlinking(kernel.paths) == []


def test_a_disk_that_is_there_is_left_alone(kernel: Kernel) -> None:
    kernel.disk(0)
    assert unlinking(kernel.paths) == []


def test_a_device_with_another_export_is_shared(kernel: Kernel) -> None:
    iscsi = "iscsi/iqn.2026-11.com.example:a/tpgt_1/lun_0\n\0"
    write_all(kernel.store / "alua/default_tg_pt_gp", {"members": kernel.members + iscsi})
    assert [found.shared for found in unlinking(kernel.paths)] == [True]


def test_the_flush_is_answered_until_it_is_given_up(
    kernel: Kernel, lock: Callable[[], DaemonLock], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The device is blocked again then: initiators that come later retry."""
    kernel.watch(monkeypatch, answers=3)
    answer_all(kernel.paths, lock(), even_shared=False, clock=ManualClock())
    assert kernel.actions == ["block_dev=0", *["reset_ring=2"] * 3, "block_dev=1", "reset_ring=1"]
    assert "unlinked without a daemon" in caplog.text
    caplog.clear()


def test_nothing_is_answered_while_a_daemon_has_the_lock(
    kernel: Kernel, tmp_path: Path, lock: Callable[[], DaemonLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.watch(monkeypatch, answers=1)
    ready, go = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.lockf(held, fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.close(go[1])
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    answer_all(kernel.paths, lock(), even_shared=True, clock=ManualClock())
    stay(kernel.paths, lock)
    assert kernel.actions == []
    for descriptor in (*ready, *go):
        os.close(descriptor)
    os.waitpid(child, 0)


def test_who_stays_waits_for_a_restart_and_ends_with_the_last_device(
    kernel: Kernel, lock: Callable[[], DaemonLock], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    kernel.watch(monkeypatch, answers=3)
    looks = []

    class Looks(ManualClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if seconds != module.LOOK_SECONDS:  # between two answers
                return
            looks.append(len(kernel.actions))
            if kernel.actions:  # the administrator goes on
                (kernel.paths.uio / "uio0/name").unlink()

    (lock()).acquire(1)
    stay(kernel.paths, lock, clock=Looks())
    assert looks.count(0) == module.GRACE_SECONDS // module.LOOK_SECONDS
    assert kernel.actions[-1] == "reset_ring=1"
    caplog.clear()
