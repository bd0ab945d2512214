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
