import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.clock import ManualClock

from tcmu_runner.errors import DeviceError
from tcmu_runner.lock import DaemonLock

HOLD = """
import sys
from pathlib import Path
from tcmu_runner.lock import DaemonLock
lock = DaemonLock(Path(sys.argv[1]))
lock.acquire(0)
print("locked", flush=True)
sys.stdin.read()
"""


def test_it_says_who_has_it(tmp_path: Path) -> None:
    path, script = tmp_path / "lock", tmp_path / "tcmu-runner"
    script.write_text(HOLD)
    with subprocess.Popen(
        [sys.executable, script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert DaemonLock(path).is_anothers(os.getpid())
        assert not DaemonLock(path).is_anothers(other.pid)
        with pytest.raises(DeviceError) as caught:
            DaemonLock(path).acquire(0)
        other.communicate()
    assert f"{path} is locked by process {other.pid} ({script}): it serves" in str(caught.value)
    assert not DaemonLock(path).is_anothers(os.getpid())
    assert not DaemonLock(tmp_path / "missing").is_anothers(os.getpid())
    with DaemonLock(path) as lock:
        lock.acquire(0)
        assert "let go" in DaemonLock(path).holder()  # of a process that asks for itself nobody is told


def test_it_waits_for_one_that_has_it_for_a_moment(tmp_path: Path) -> None:
    """As a guardian while it tidies up."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"

        class Ending(ManualClock):
            def sleep(self, seconds: float) -> None:
                super().sleep(seconds)
                if self.now >= 1005:
                    other.communicate()

        clock = Ending()
        with pytest.raises(DeviceError):
            DaemonLock(tmp_path / "lock", clock).acquire(4)
        with DaemonLock(tmp_path / "lock", clock) as lock:
            lock.acquire(10)
        assert 1005 <= clock.now < 1006
