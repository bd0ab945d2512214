"""What Linux knows about processes and the os module does not."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def name_process(name: str) -> None:
    """What `ps` and `killall` see; cut to 15 bytes. For the main thread."""
    with open("/proc/self/comm", "w") as comm:
        comm.write(name[:15])


def die_with_parent() -> None:
    """SIGKILL when the parent ends: a worker whose handler never lets go must not outlive the daemon."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
