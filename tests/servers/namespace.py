"""Network namespaces: for servers that want an address which is not loopback's, and for those who talk to
them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


def inside(name: str) -> list[str]:
    """What to put before a command that shall run there; nothing for the name ''."""
    return ["ip", "netns", "exec", name] if name else []


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Sockets that this thread makes in the meantime are there."""
    if not name:
        yield
        return
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as there:
        _set(there.fileno())
        try:
            yield
        finally:
            _set(home.fileno())


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
