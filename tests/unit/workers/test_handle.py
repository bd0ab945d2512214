"""Worker processes, really forked: what the supervisor hears of them, and what becomes of those that hang."""

import asyncio
import errno
import itertools
import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import pytest
from support.waiting import eventually

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioDevice, UioEntry
from tcmu_runner.logs import Logs
from tcmu_runner.sandbox import Confinement
from tcmu_runner.workers import protocol
from tcmu_runner.workers.forkserver import ForkServer
from tcmu_runner.workers.handle import SILENT_SECONDS, WorkerDiedError, WorkerHandle
from tcmu_runner.workers.pool import QUIET_SECONDS, Pool, WorkerServer
from tcmu_runner.workers.protocol import (
    Close,
    Done,
    Drain,
    Ended,
    Forked,
    Serve,
    Started,
    Watch,
    decode,
    encode,
)
from tcmu_runner.workers.server import Terms
from tcmu_runner.workers.state_files import StateFiles
from tcmu_runner.workers.worker import Worker

PATIENCE = 60.0
ENTRY = UioEntry(3, DeviceName(0, "vol3", "ram/"))
OTHER = UioEntry(4, DeviceName(0, "vol4", "ram/"))
TERMS = Terms(Overrides(), None)


class Obedient(Worker):
    """A worker that serves nothing and answers everything; Drain makes it hang, Close end by itself."""

    def __init__(self, control: socket.socket) -> None:
        """It has nothing else of what a real one is made of."""
        self.control = control

    def get_ready(self) -> None:
        """It always is."""

    def run(self) -> None:
        self.say(Started())
        while datagram := self.control.recv(1 << 16):
            match decode(datagram):
                case Serve() as request:
                    self.say(Done(request.id, size=512, block_size=512))
                case Drain():
                    select.select([], [], [])
                case Close():
                    os._exit(3)
                case Watch() as request:
                    self.say(Done(request.id))

    def say(self, message: Started | Done) -> None:
        self.control.send(encode(message))


class TakenOver(Obedient):
    """Says what others want, instead of Done, when it is asked to drain."""

    words: tuple[bytes, ...] = ()

    def run(self) -> None:
        self.say(Started())
        while datagram := self.control.recv(1 << 16):
            request = decode(datagram)
            if isinstance(request, Serve):
                self.say(Done(request.id, size=512, block_size=512))
            else:
                for word in self.words:
                    self.control.send(word)


class Bench:
    """quiet, silent, reason: seconds of the pool and of its workers' handles. The forkserver may be slow to
    tell the reason of an end."""

    def __init__(
        self,
        fork_server: ForkServer,
        count: int | None,
        paths: Paths,
        quiet: float = QUIET_SECONDS,
        silent: float = SILENT_SECONDS,
        reason: float = PATIENCE,
    ) -> None:
        self.paths = paths
        self.ended = asyncio.Event()
        self.pool = Pool(
            fork_server, count, self.ended.set,
            quiet_seconds=quiet,
            make_handle=lambda control: WorkerHandle(control, silent, reason),
        )  # fmt: skip
        self.troubles: list[Exception] = []
        self.told = asyncio.Event()

    def trouble(self, error: Exception) -> None:
        self.troubles.append(error)
        self.told.set()

    async def server(self, entry: UioEntry = ENTRY, *, urgent: bool = False) -> WorkerServer:
        terms = replace(TERMS, origin=Origin.RUNNING if urgent else Origin.NEW)
        server = WorkerServer(entry, self.pool, terms, self.trouble)
        with open(os.devnull, "rb") as nothing, closing(StateFiles(entry.name, self.paths)) as state:
            uio = UioDevice(entry.minor, os.dup(nothing.fileno()))
            await server.serve(uio, nothing.fileno(), state)
        await eventually(lambda: server.pid)  # the forkserver says it on a socket of its own
        return server


MakeWorker = Callable[[socket.socket], Worker]
Life = Callable[[Bench], Awaitable[None]]


class Live(Protocol):
    """Lives on a bench whose pool has at most `count` workers, each of this kind. quiet,
    silent: see Bench."""

    def __call__(
        self,
        life: Life,
        count: int | None = None,
        kind: type[Obedient] = Obedient,
        *,
        quiet: float = QUIET_SECONDS,
        silent: float = SILENT_SECONDS,
    ) -> None: ...


def started(make_worker: MakeWorker, let_go: Callable[[], None] = lambda: None) -> ForkServer:
    return ForkServer.start(make_worker, cast("Logs", None), let_go)  # nobody changes the log here


@pytest.fixture
def live(paths: Paths) -> Live:
    def live(
        life: Life,
        count: int | None = None,
        kind: type[Obedient] = Obedient,
        *,
        quiet: float = QUIET_SECONDS,
        silent: float = SILENT_SECONDS,
    ) -> None:
        fork_server = started(kind)

        async def main() -> None:
            bench = Bench(fork_server, count, paths, quiet, silent)
            await asyncio.wait_for(life(bench), PATIENCE)
            for worker in list(bench.pool._workers):
                worker.end()

        asyncio.run(main())
        fork_server.close()

    return live


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGUSR2, "SIGUSR2"), (40, "signal 40")]
)
def test_the_end_of_a_worker_is_told_with_its_cause(live: Live, number: int, how: str) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        os.kill(server.pid, number)
        await bench.told.wait()
        (trouble,) = bench.troubles
        assert isinstance(trouble, WorkerDiedError)
        await trouble.explained()
        assert str(trouble) == f"worker process ended ({how})"
        assert server.ended
        with pytest.raises(DeviceError, match="worker process ended"):
            await server.resize(512)

    live(life)


def test_a_worker_that_cannot_start_a_thread_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paths: Paths
) -> None:
    """It is replaced like any worker that has ended."""

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # what Python makes of EAGAIN

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        fork_server = started(_real_worker(tmp_path / "log"))

    async def main() -> None:
        bench = Bench(fork_server, None, paths)
        worker = bench.pool.lease(urgent=False)
        with pytest.raises(DeviceError, match=r"worker process ended"):
            await asyncio.wait_for(worker.call(lambda number: Drain(number, 3, 1)), PATIENCE)
        ended = bench.pool.lease(urgent=False)
        ended.end()

    asyncio.run(main())
    fork_server.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("process ") and " ends: cannot start the thread 'request': raise " in line


def _real_worker(file: Path) -> MakeWorker:
    """Workers that serve nothing yet; their log, and nobody else's, goes to the file."""

    def make(control: socket.socket) -> Worker:
        logging.getLogger().handlers[:] = [logging.FileHandler(file)]
        return Worker(control, Registry(), Paths(), Confinement(), cast("Logs", None), shared=True)

    return make


def test_a_fork_that_fails_costs_one_worker(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> None:
    """The template goes on, and so do all other workers."""
    counted, fork = itertools.count(), os.fork

    def second_fails() -> int:
        if next(counted) == 1:  # 0 is the template itself
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", second_fails)
        fork_server = started(Obedient)

    async def main() -> None:
        bench = Bench(fork_server, None, paths, reason=0)  # the forkserver never tells one
        with pytest.raises(DeviceError, match="worker process ended"):
            await bench.server()
        (await bench.server())._worker.end()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    fork_server.close()


def test_a_worker_has_nothing_that_only_the_supervisor_may_have() -> None:
    secret, other = socket.socketpair()

    class Looking(Obedient):
        def run(self) -> None:
            self.say(Started() if secret.fileno() < 0 else Done(1, errno.EPERM, "it has it"))

    with secret, other:
        fork_server = started(Looking, secret.close)
        with fork_server.fork() as worker:
            select.select([worker], [], [])
            assert decode(worker.recv(1 << 16)) == Started()
        assert secret.fileno() >= 0
        fork_server.close()


def test_a_worker_that_leaves_answers_nobody(live: Live) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        worker = server._worker
        with pytest.raises(DeviceError, match=r"ended \(exit status 3\)"):
            await worker.call(lambda number: Close(number, ENTRY.minor))

    live(life)


def test_one_that_answers_lives_on(live: Live) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        server.watch()
        watching = server._worker._watching
        assert watching is not None
        await watching
        assert not server.ended

    live(life, silent=PATIENCE)


def test_one_that_hangs_is_killed(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        hanging = asyncio.ensure_future(server.drain(1))
        await asyncio.sleep(0)
        server.watch()
        with pytest.raises(DeviceError, match="SIGKILL"):
            await hanging
        assert [str(trouble) for trouble in bench.troubles] == ["worker process ended (SIGKILL)"]

    live(life, silent=0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "no answer for" in caplog.text
    caplog.clear()


def test_a_shared_worker_takes_all_its_devices_along(live: Live) -> None:
    async def life(bench: Bench) -> None:
        server, other = await bench.server(), await bench.server(OTHER)
        assert server.pid == other.pid
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: len(bench.troubles) >= 2)
        assert (await bench.server()).pid != server.pid

    live(life, count=1)


def test_devices_have_workers_of_their_own(live: Live) -> None:
    async def life(bench: Bench) -> None:
        server, other = await bench.server(), await bench.server(OTHER)
        assert server.pid != other.pid

    live(life)


def test_one_that_is_killed_before_it_is_known_which_it_is(live: Live) -> None:
    """Until it is dead it may still come to a ring."""

    async def life(bench: Bench) -> None:
        server = WorkerServer(ENTRY, bench.pool, TERMS, bench.trouble)
        assert not server.pid
        server._worker.troubles[ENTRY.minor] = bench.trouble
        server._worker.kill()
        assert not server.ended
        await bench.told.wait()
        assert server.ended

    live(life)


def test_the_process_that_is_killed_is_the_one_that_was_forked(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a worker says of itself."""
    bystander = subprocess.Popen(["sleep", "3600"])
    table = {"version": protocol.VERSION, "kind": "Started", "pid": bystander.pid}

    class Liar(TakenOver):
        words = (json.dumps(table).encode(), encode(Forked(bystander.pid)))

    async def life(bench: Bench) -> None:
        server = await bench.server()
        before = server.pid
        with pytest.raises(DeviceError, match="SIGKILL"):
            await server.drain(1)
        assert server.pid == before
        assert bystander.poll() is None

    try:
        live(life, kind=Liar)
    finally:
        bystander.kill()
        bystander.wait()
    (line,) = caplog.messages
    assert "unexpected keyword argument 'pid'" in line
    caplog.clear()


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(b"{", id="no message"),
        pytest.param(encode(Forked(1)), id="the forkserver's"),
        pytest.param(encode(Ended(1, 0)), id="the forkserver's, too"),
        pytest.param(encode(Close(1, 3)), id="the supervisor's"),
    ],
)
def test_a_worker_that_does_not_keep_to_the_protocol_is_killed(
    live: Live, caplog: pytest.LogCaptureFixture, word: bytes
) -> None:
    """In one line, however much it says."""

    class Garbling(TakenOver):
        words = (word,) * 100

    async def life(bench: Bench) -> None:
        with pytest.raises(DeviceError, match="SIGKILL"):
            await (await bench.server()).drain(1)

    live(life, kind=Garbling)
    (line,) = caplog.messages
    assert line.startswith("worker process ") and line.endswith(": killed")
    caplog.clear()


@pytest.mark.parametrize("code", [-2, 4096, 1 << 40])
def test_an_error_that_the_kernel_does_not_know_is_eio(live: Live, code: int) -> None:
    """It takes numbers up to MAX_ERRNO only, and would wait for another answer."""

    class Strange(TakenOver):
        words = (encode(Done(2, code, "strange")),) * 2  # the second one is for nobody

    async def life(bench: Bench) -> None:
        with pytest.raises(DeviceError, match="strange") as raised:
            await (await bench.server()).drain(1)
        assert raised.value.errno == errno.EIO

    live(life, kind=Strange)


def test_the_number_of_a_worker_that_has_ended_may_be_anothers(live: Live) -> None:
    """Though a child of the worker keeps its socket open, so that only the forkserver sees its end."""

    async def life(bench: Bench) -> None:
        server = await bench.server()
        worker = server._worker
        worker.explain(signal.SIGKILL)
        worker.kill()
        assert (await worker.call(Watch)).errno == 0

    live(life)


def test_the_end_of_the_template_is_told(live: Live) -> None:
    """All workers go with it: the daemon has to begin anew."""

    async def life(bench: Bench) -> None:
        server = await bench.server()
        with open(f"/proc/{server.pid}/stat") as stat:
            fork_server = int(stat.read().rpartition(") ")[2].split()[1])
        os.kill(fork_server, signal.SIGKILL)
        await bench.ended.wait()
        await eventually(lambda: server.ended)
        assert bench.pool.lost

    live(life)


def test_the_spare_worker_is_left_to_a_device_whose_initiators_wait(live: Live) -> None:
    async def life(bench: Bench) -> None:
        await bench.server()
        await eventually(lambda: (spare := bench.pool._spare) is not None and spare.ready)
        spare = bench.pool._spare
        new, waiting = await bench.server(OTHER), await bench.server(urgent=True)
        assert new._worker is not spare
        assert waiting._worker is spare

    live(life, quiet=0)


def test_a_pool_that_is_closed_forks_no_spare_worker(live: Live) -> None:
    """The daemon closes the template next, and its event loop may run on for a moment."""

    async def life(bench: Bench) -> None:
        bench.pool.lease(urgent=False)
        bench.pool.close()
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.0, later.set)  # after what it would have called
        await later.wait()
        assert bench.pool._spare is None

    live(life, quiet=0)


def test_a_spare_worker_that_cannot_be_forked_is_a_warning(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*, rehearsed: bool) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    async def life(bench: Bench) -> None:
        bench.pool.lease(urgent=False)
        monkeypatch.setattr(bench.pool._fork_server, "fork", full)
        while not caplog.messages:
            await asyncio.sleep(0)
        assert caplog.messages[0].startswith("no spare worker: [Errno 24] Too many open files: ")
        caplog.clear()

    live(life, quiet=0)
