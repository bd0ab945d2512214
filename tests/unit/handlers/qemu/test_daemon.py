"""What ends a qemu-storage-daemon whose parent has died. The daemon itself is tried in tests/backends."""

from __future__ import annotations

import os
import signal
import sys
from subprocess import DEVNULL, PIPE, Popen

import pytest

from tcmu_runner.handlers.qemu.daemon import keep

# As QEMU does when the first signal comes between its look at a flag and its sleep.
DEAF_ONCE = """
import signal
heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append(0))
print("ready", flush=True)
while len(heard) < 2:
    signal.pause()
"""
PARENT = f"""
import signal, sys
from subprocess import DEVNULL
from tcmu_runner.handlers.qemu.daemon import keep
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as workers do
keep([sys.executable, "-c", {DEAF_ONCE!r}], stdin=DEVNULL)
signal.pause()
"""


def test_a_daemon_that_misses_a_signal_ends_with_its_parent() -> None:
    with Popen([sys.executable, "-c", PARENT], stdout=PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.stdout.read() == b""  # it ends with the last process that has it


def test_it_ends_by_itself() -> None:
    with keep(["true"], stdin=DEVNULL) as process:
        assert process.wait(60) == 0


def test_all_of_it_can_be_killed() -> None:
    with keep(["sh", "-c", "echo ready; exec sleep 3600"], stdin=DEVNULL, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGKILL)
        assert process.stdout.read() == b""


def test_nothing_is_started_when_the_parent_is_dead_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died before the kernel was asked for the signal."""
    monkeypatch.setattr(os, "getpid", lambda: 0)
    with keep(["echo", "started"], stdin=DEVNULL, stdout=PIPE) as process:
        assert process.communicate(timeout=60)[0] == b""
