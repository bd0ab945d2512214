"""What `benchmarks.stored` measures: servers of one disk each, ours over iSCSI, the others over NBD.

An arm makes its storage in a directory (memory: /dev/shm), fills it, and is there until it is closed.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import CHECKOUT
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Registry
from tcmu_runner.scsi.operations import Flush, Write

sys.path.append(str(CHECKOUT / "tests/servers"))

from ceph_cluster import Ceph
from gluster import HOST, Gluster
from namespace import inside

SIZE = 64 << 20
PIECE = 1 << 20
PROGRAM = Path(sys.executable).with_name("tcmu-runner")
KEY = "a passphrase"
QUICK: dict[str, object] = {"create": True, "kdf": "pbkdf2", "kdf_time": 1000}
SECRET = ["--object", "secret,id=k,file=DIR/key"]
URI = re.compile(r"^  (iscsi://\S+)$")
Arm = Callable[[Path], Iterator["Server"]]


class Server(NamedTuple):
    """pids: of the processes that answer at the URI. prefix: for the commands of clients."""

    uri: str
    pids: Sequence[int]
    prefix: Sequence[str] = ()

    def cpu(self) -> float:
        """Seconds that they have used so far, threads that have ended included."""
        return sum(map(_cpu, self.pids))


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def content(offset: int, length: int) -> bytes:
    """Half of it compresses well."""
    piece = random.Random(offset).randbytes(2048)
    return (piece + bytes(2048)) * (length // 4096)


def do(words: Sequence[str], own: str = "") -> None:
    subprocess.run([word.replace("DIR", own) for word in words], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def place(directory: Path) -> Iterator[str]:
    """A directory of its own for one arm, with the key in it."""
    with tempfile.TemporaryDirectory(dir=directory) as own:
        Path(own, "key").write_text(KEY)
        yield own


# -- ours ------------------------------------------------------------------------------------------------


def ours(config: str, *, luks: bool = False, block_size: int = 512, make_image: Sequence[str] = ()) -> Arm:
    """A LUN of the embedded mode. config: with DIR for a directory."""

    def arm(directory: Path) -> Iterator[Server]:
        with place(directory) as own:
            if make_image:
                do(make_image, own)
            path = config.replace("DIR", own)
            make(path, {"key_file": f"{own}/key", **QUICK} if luks else None, block_size)
            options = ["--filter", f"luks key_file={own}/key"] if luks else []
            with serving(path, "--block-size", str(block_size), *options) as server:
                yield server

    return arm


def make(config: str, luks: dict[str, object] | None, block_size: int) -> None:
    subtype, _, rest = config.partition("/")
    registry = Registry()
    registry.load_entry_points()
    layers = (Layer.parse("luks", luks),) if luks else ()
    registry.put(registry.definition("measured", subtype, layers))
    provider, parts = registry.find(f"measured/{rest}")
    stack = Stack.open(provider, provider.parse(parts.rest), Device("benchmark", SIZE, block_size))
    perform = stack.perform()
    for at in range(0, SIZE, PIECE):
        perform(Write(at, [memoryview(bytearray(content(at, PIECE)))]))
    perform(Flush())
    stack.close()


@contextmanager
def serving(config: str, *options: str, prefix: Sequence[str] = ()) -> Iterator[Server]:
    """`tcmu-runner try`, and the processes that it has started."""
    subtype, _, rest = config.partition("/")
    program = [*prefix, str(PROGRAM), "try", subtype, rest, "--size", str(SIZE), *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        uri = next(found[1] for line in process.stdout if (found := URI.match(line)))
        try:
            yield Server(uri, [process.pid, *children(process.pid)], prefix)
        finally:
            process.terminate()


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for found in lists for child in found.read_text().split()]


# -- others ----------------------------------------------------------------------------------------------


def served_by(make_image: Sequence[str], server: Sequence[str]) -> Arm:
    """An NBD server. DIR, in both commands, is the directory; the server listens on DIR/socket."""

    def arm(directory: Path) -> Iterator[Server]:
        with place(directory) as own:
            do(make_image, own)
            fill(own, make_image[make_image.index("-f") + 1])
            with listening([word.replace("DIR", own) for word in server], Path(own, "socket")) as found:
                yield found

    return arm


@contextmanager
def listening(server: Sequence[str], socket: Path, *, prefix: Sequence[str] = ()) -> Iterator[Server]:
    """The server's own process is the one that listens, or its child (nbdkit)."""
    with subprocess.Popen([*prefix, *server], stderr=subprocess.DEVNULL) as process:
        while not socket.exists():
            assert process.poll() is None, f"{server[0]} has ended"
            time.sleep(0.02)
        try:
            yield Server(f"nbd+unix:///?socket={socket}", [process.pid, *children(process.pid)])
        finally:
            process.terminate()


def fill(own: str, kind: str) -> None:
    """The same content as ours."""
    raw = Path(own, "raw")
    raw.write_bytes(b"".join(content(at, PIECE) for at in range(0, SIZE, PIECE)))
    options = "driver=luks,key-secret=k" if kind == "luks" else f"driver={kind}"
    do(["qemu-img", "convert", "-n", *SECRET, "--image-opts", "--target-image-opts",
         "driver=raw,file.filename=DIR/raw", f"{options},file.filename=DIR/image"], own)  # fmt: skip
    raw.unlink()


def image(kind: str) -> list[str]:
    return ["qemu-img", "create", "-f", kind, "DIR/image", str(SIZE)]


MAKE_LUKS = [
    *("qemu-img", "create", *SECRET, "-f", "luks", "-o", "key-secret=k,iter-time=100", "DIR/image", str(SIZE))
]
NBDKIT = ["nbdkit", "-f", "-U", "DIR/socket"]
QEMU_NBD = ["qemu-nbd", "-t", "-k", "DIR/socket"]


def over_nbd(directory: Path) -> Iterator[Server]:
    """Our `nbd`, over nbdkit on a file."""
    with below(directory) as own, serving(f"nbd/unix{own}/socket") as server:
        yield server


def qemu_over_nbd(directory: Path) -> Iterator[Server]:
    """qemu-nbd in the same place."""
    with below(directory) as own:
        server = ["qemu-nbd", "-t", "-f", "raw", "-k", f"{own}/front", f"nbd+unix:///?socket={own}/socket"]
        with listening(server, Path(own, "front")) as found:
            yield found


@contextmanager
def below(directory: Path) -> Iterator[str]:
    """The directory of an nbdkit that listens."""
    with place(directory) as own:
        do(image("raw"), own)
        fill(own, "raw")
        server = [word.replace("DIR", own) for word in [*NBDKIT, "file", "DIR/image"]]
        with listening(server, Path(own, "socket")):
            yield own


PYTHON = """
API_VERSION = 2
disk = bytearray({size})
def thread_model(): return nbdkit.THREAD_MODEL_PARALLEL
def open(readonly): return 1
def get_size(h): return {size}
def pread(h, buf, offset, flags): buf[:] = disk[offset:offset + len(buf)]
def pwrite(h, buf, offset, flags): disk[offset:offset + len(buf)] = buf
def flush(h, flags): pass
"""


def nbdkit_python(directory: Path) -> Iterator[Server]:
    """A disk in memory, in a few lines of Python, as `ram` is one of ours."""
    with place(directory) as own:
        plugin = Path(own, "plugin.py")
        plugin.write_text("import nbdkit\n" + PYTHON.format(size=SIZE))
        with listening(
            ["nbdkit", "-f", "-U", f"{own}/socket", "python", str(plugin)], Path(own, "socket")
        ) as server:
            yield server


LOCAL: dict[str, Arm] = {
    "file": ours("file/DIR/disk"),
    "qemu-nbd": served_by(image("raw"), [*QEMU_NBD, "-f", "raw", "DIR/image"]),
    "ram": ours("ram/"),
    "nbdkit python": nbdkit_python,
    "luks": ours("file/DIR/disk", luks=True),
    "luks 4096": ours("file/DIR/disk", luks=True, block_size=4096),
    "nbdkit luks": served_by(
        MAKE_LUKS, [*NBDKIT, "--filter=luks", "file", "DIR/image", "passphrase=+DIR/key"]
    ),
    "qemu-nbd luks": served_by(
        MAKE_LUKS, [*QEMU_NBD, *SECRET, "--image-opts", "driver=luks,key-secret=k,file.filename=DIR/image"]
    ),
    "zstd": ours("zstd/DIR/disk"),
    "qcow": ours("qcow/DIR/image", make_image=image("qcow2")),
    "qemu-nbd qcow2": served_by(image("qcow2"), [*QEMU_NBD, "-f", "qcow2", "DIR/image"]),
    "nbd": over_nbd,
    "qemu-nbd nbd": qemu_over_nbd,
}


# -- clusters --------------------------------------------------------------------------------------------


class Clusters:
    """A Ceph and a Gluster, on loopback, in memory; the arms on them."""

    def __init__(self, directory: Path) -> None:
        home = directory / "ceph"
        home.mkdir()
        self.ceph = Ceph(home)
        self.ceph.create()
        self.gluster = Gluster()
        self.gluster.do(f"volume create v {HOST}:{directory}/brick force")
        self.gluster.do("volume start v")

    def close(self) -> None:
        self.gluster.do("volume stop v force")
        self.gluster.end()
        self.ceph.close()

    def rbd(self, _: Path) -> Iterator[Server]:
        self.ceph.rbd("create", "--size", f"{SIZE}B", "rbd/ours")
        config = f"rbd/rbd/ours;conf={self.ceph.conf}"
        make(config, None, 512)
        with serving(config) as server:
            yield server

    def qemu_rbd(self, directory: Path) -> Iterator[Server]:
        self.ceph.rbd("create", "--size", f"{SIZE}B", "rbd/theirs")
        make(f"rbd/rbd/theirs;conf={self.ceph.conf}", None, 512)
        socket = directory / "rbd.socket"
        place = f"rbd:rbd/theirs:conf={self.ceph.conf}"
        with listening(
            ["qemu-nbd", "-t", "-k", str(socket), "-f", "raw", "--cache=none", place], socket
        ) as found:
            yield found

    def glfs(self, _: Path) -> Iterator[Server]:
        with serving(f"glfs/v@{HOST}/ours", prefix=inside(self.gluster.namespace)) as server:
            fill_over(server)
            yield server

    def qemu_gluster(self, directory: Path) -> Iterator[Server]:
        prefix, uri = inside(self.gluster.namespace), f"gluster://{HOST}/v/theirs"
        do([*prefix, "qemu-img", "create", "-f", "raw", uri, str(SIZE)])
        socket = directory / "gluster.socket"
        server = ["qemu-nbd", "-t", "-k", str(socket), "-f", "raw", "--cache=none", uri]
        with listening(server, socket, prefix=prefix) as found:
            fill_over(found)
            yield found

    @property
    def arms(self) -> dict[str, Arm]:
        return {
            "rbd": self.rbd, "qemu-nbd rbd": self.qemu_rbd,
            "glfs": self.glfs, "qemu-nbd gluster": self.qemu_gluster,
        }  # fmt: skip


def fill_over(server: Server) -> None:
    """Through the server itself."""
    with tempfile.NamedTemporaryFile() as raw:
        raw.write(b"".join(content(at, PIECE) for at in range(0, SIZE, PIECE)))
        raw.flush()
        do([*server.prefix, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw.name, server.uri])
