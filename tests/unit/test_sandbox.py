"""What a process gives up for good, by what the kernel says of it afterwards."""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tcmu_runner import sandbox

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")
PROGRAM = """
import os
from types import SimpleNamespace
from tcmu_runner.sandbox import Confinement, confine
os.uname = lambda: SimpleNamespace(machine="loongarch64")
confine(Confinement(), ["DAC_OVERRIDE"])
print(open("/proc/self/status").read())
"""


@AS_ROOT
def test_capabilities_go_on_a_machine_that_nobody_has_thought_of() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    kept = 1 << 1  # CAP_DAC_OVERRIDE (linux/capability.h)
    assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh")] == [kept] * 3 + [0]


class Refusing:
    """A C library whose capset fails."""

    @staticmethod
    def capset(_header: object, _data: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1


class Poor:
    """A C library without capset."""


@pytest.mark.parametrize(("library", "code"), [(Refusing, errno.EPERM), (Poor, errno.ENOSYS)])
def test_a_worker_that_cannot_give_them_up_is_refused(
    monkeypatch: pytest.MonkeyPatch, library: Callable[[], object], code: int
) -> None:
    monkeypatch.setattr(sandbox, "_libc", library())
    with pytest.raises(OSError, match=r".") as caught:
        sandbox._keep_only(set())
    assert caught.value.errno == code


TWO_THREADS = """
import os, threading
from tcmu_runner.sandbox import calm_down, give_up
ready, done = threading.Event(), threading.Event()
thread = threading.Thread(target=lambda: (ready.set(), done.wait()), daemon=True)
thread.start()
ready.wait()
give_up([], [])
calm_down(7)
print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, thread.native_id))
done.set()
"""


@AS_ROOT
def test_a_thread_with_more_capabilities_keeps_its_priority() -> None:
    """A shared worker ended because of it: its ring's thread had not given up its own yet."""
    command = [sys.executable, "-c", TWO_THREADS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "7 0\n"
