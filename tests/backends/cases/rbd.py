"""`rbd`: images of a Ceph cluster, which all tests share."""

import atexit
import functools
import itertools
import signal
import tempfile
from pathlib import Path

from ceph_cluster import Ceph
from harness import Backend, Case

GONE = (r"lost the connection to its storage", r"\[Errno 110\]")
_numbers = itertools.count(1)


@functools.cache
def cluster() -> Ceph:
    """Started once; it ends with the tests."""
    directory = tempfile.TemporaryDirectory(prefix="ceph-")
    made = Ceph(Path(directory.name))
    atexit.register(directory.cleanup)
    atexit.register(made.close)
    made.create()
    return made


class RbdBackend(Backend):
    """An image of its own; the server is the cluster's OSD."""

    options = ""

    def __init__(self, directory: Path, size: int) -> None:
        super().__init__(directory, size)
        self.image = f"disk{next(_numbers)}"
        self._running = False

    @property
    def config(self) -> str:
        return f"rbd/rbd/{self.image};conf={cluster().conf}{self.options}"

    def start(self) -> None:
        if self._running:
            cluster().start()
        else:
            cluster().rbd("create", "--size", f"{self.size}B", f"rbd/{self.image}")
        self._running = True

    def kill(self) -> None:
        cluster().kill()

    def freeze(self) -> None:
        cluster().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        cluster().signal(signal.SIGCONT)

    def state(self) -> str:
        return cluster().state()


class RbdTimeOut(RbdBackend):
    """Commands that are not answered in two seconds end in BUSY."""

    options = ";osd_op_timeout=2"


FULL = {"backend_full": "Ceph lets writes wait while it is full: test_ceph.py"}
CASES = [
    Case("rbd", RbdBackend, without=FULL, complaints=GONE, shared="ceph"),
    Case(
        "rbd-time-out", RbdTimeOut, complaints=GONE, shared="ceph",
        without=FULL
        | dict.fromkeys(("model", "contract", "served_killed", "fio_verify"), "as rbd without the option"),
    ),
]  # fmt: skip
