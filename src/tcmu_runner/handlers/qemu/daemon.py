"""A qemu-storage-daemon that we start. Methods block; one thread at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tcmu_runner.handler.device import Device
from tcmu_runner.handlers.backing import hold
from tcmu_runner.handlers.claims import holder, in_use
from tcmu_runner.handlers.nbd.dial import Address, Place, dial
from tcmu_runner.handlers.nbd.wire import NbdExport
from tcmu_runner.handlers.qemu.image import NODE, Image, Json, check_chain
from tcmu_runner.handlers.qemu.monitor import Monitor

PROGRAM = "qemu-storage-daemon"
LOCKED = '" lock'  # Failed to get "write" lock
END_SECONDS = 30.0  # for it to write what it has in memory, and to release the image
LOCK_SECONDS = 1.0  # to wait for the lock while another LUN or a live process has it
LOCK_PAUSE = 0.1
# A shell between us and the daemon, for `sh -c KEEPER sh OUR_PID WORD...`. setpriv(1) has the kernel send the
# shell SIGUSR2 when the thread that started it ends. The shell then repeats SIGHUP until the daemon is gone:
# QEMU notes one in a flag without waking its main loop, which sleeps on if it had just looked at the flag.
KEEPER = """
trap orphaned=yes USR2
[ "$PPID" = "$1" ] || exit
shift
"$@" &
[ "$orphaned" ] || wait $!
while [ "$orphaned" ] && kill -s HUP $! 2>/dev/null; do sleep 0.1; done
"""


class Daemon:
    """Serves one image. `connect` starts it when it does not run. refusal: why the image could not grow.

    We lock the image from the first start until `close`: QEMU's own locks let two of its processes write to
    one raw image, and no other handler sees them. A qemu-storage-daemon inherits our lock: if it outlives us
    to write what it has in memory, a successor waits for it.
    """

    def __init__(self, image: Image, device: Device) -> None:
        self.refusal = ""
        self.image = image
        self._device = device
        self._log = device.log
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor
        self._output: int
        self._exposed = False

    def connect(self, size: int) -> tuple[socket.socket, NbdExport]:
        """A connection over NBD; one at a time. size: the image grows to so many bytes if it has less; if it
        cannot, `refusal` says why. Raises OSError."""
        if self._process is not None:
            try:
                return self._expose(size)
            except OSError as error:
                self._log.error("its %s failed: %s: starting another", PROGRAM, self.end() or error)
        self._start()
        return self._expose(size)

    def _start(self) -> None:
        """Waits for the daemon of a worker that died: it keeps its locks until it has written everything."""
        path, clock = Path(self.image.path), self._device.clock
        began = clock.monotonic()
        while True:
            try:
                if self._lock is None:
                    shared = self.image.shared or self.image.read_only
                    self._lock = hold(path, self._device, shared=shared)
                return self._start_once()
            except OSError as error:
                if error.errno != errno.EBUSY and LOCKED not in str(error):
                    raise
                other = holder(path, self._device.name)
                if clock.monotonic() - began > (LOCK_SECONDS if other else END_SECONDS):
                    raise in_use(path, other) if LOCKED in str(error) else error from None
            clock.sleep(LOCK_PAUSE)

    def _start_once(self) -> None:
        node = json.dumps(self.image.node())
        ours, theirs = socket.socketpair()
        self._output = os.memfd_create("qemu-output", os.MFD_CLOEXEC)
        with theirs:
            chardev = f"socket,id=monitor,fd={theirs.fileno()}"
            words = [PROGRAM, "--blockdev", node, "--chardev", chardev, "--monitor", "chardev=monitor"]
            assert self._lock is not None
            self._process = _spawn(words, [theirs.fileno(), self._lock], self._output)
        self._monitor = Monitor(ours)
        try:
            self._monitor.greet()
            nodes = cast("Sequence[Json]", self._monitor.execute("query-named-block-nodes", flat=True))
            check_chain(nodes)
        except OSError as error:
            said = self.end()
            raise OSError(error.errno or errno.EIO, f"{self.image.path}: {said or error}") from None

    def _expose(self, size: int) -> tuple[socket.socket, NbdExport]:
        """Exports the image anew over NBD, on a socket that has a name only until we are connected."""
        if self._exposed:
            self._monitor.execute("nbd-server-stop")  # also ends the exports
            self._exposed = False
        self._grow(size)
        with tempfile.TemporaryDirectory(prefix="tcmu-") as directory:
            path = f"{directory}/nbd"
            self._monitor.execute("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
            self._exposed = True
            self._monitor.execute(
                "block-export-add", type="nbd", id=NODE, node_name=NODE, name=NODE,
                writable=not self.image.read_only,
            )  # fmt: skip
            return dial(Place(Address(path), NODE))

    def _grow(self, size: int) -> None:
        nodes = cast("Sequence[Json]", self._monitor.execute("query-named-block-nodes", flat=True))
        (image,) = (cast("Json", node["image"]) for node in nodes if node["node-name"] == NODE)
        if size <= cast("int", image["virtual-size"]):
            return
        try:
            self._monitor.execute("block_resize", node_name=NODE, size=size)
        except OSError as error:
            self.refusal = str(error)

    def close(self) -> None:
        """Ends the daemon and releases the image."""
        self.end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def end(self) -> str:
        """Has the daemon write what it has in memory, and waits for its end. Returns its output on stderr."""
        if self._process is None:
            return ""
        process, self._process, self._exposed = self._process, None, False
        try:
            self._monitor.execute("quit")
            process.wait(END_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._monitor.close()
        with os.fdopen(self._output, "rb") as output:
            output.seek(0)
            return output.read().decode(errors="replace").strip().removeprefix(f"{PROGRAM}: ")


def _spawn(words: Sequence[str], inherited: Sequence[int], output: int) -> subprocess.Popen[bytes]:
    if not any((Path(directory) / PROGRAM).exists() for directory in os.get_exec_path()):
        raise OSError(errno.ENOENT, f"{PROGRAM} is not installed: apt-get install qemu-system-common")
    return keep(words, pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def keep(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, which gets SIGHUP until it ends when the calling thread has
    ended, however that dies. On SIGHUP a qemu-storage-daemon first writes what it has answered and
    initiators count on: clusters without their tables. options: of Popen."""
    keeper = ["setpriv", "--pdeathsig", "USR2", "sh", "-c", KEEPER, "sh", str(os.getpid())]
    return subprocess.Popen([*keeper, *words], start_new_session=True, **options)
