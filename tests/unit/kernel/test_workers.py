"""Worker processes, really forked: what the supervisor hears of them, and what becomes of those that hang."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import DeviceError
from tcmu_runner.kernel import pool as pool_module
from tcmu_runner.kernel import workers as workers_module
from tcmu_runner.kernel.messages import Close, Done, Drain, Serve, Started, Watch, decode, encode
from tcmu_runner.kernel.pool import Pool, WorkerServer
from tcmu_runner.kernel.servers import Terms
from tcmu_runner.kernel.template import Template
from tcmu_runner.kernel.uio import DeviceName, UioDevice, UioEntry
from tcmu_runner.kernel.worker import Worker
from tcmu_runner.kernel.workers import WorkerDiedError
from tcmu_runner.logs import Log

PATIENCE = 20.0
ENTRY = UioEntry(3, DeviceName(0, "vol3", "ram/"))
OTHER = UioEntry(4, DeviceName(0, "vol4", "ram/"))
TERMS = Terms(Overrides(), None)


class Obedient:
    """A worker that serves nothing and answers everything; Drain makes it hang, Close end by itself."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control

    def get_ready(self) -> None:
        """It always is."""

    def run(self) -> None:
        self.say(Started(os.getpid()))
        while datagram := self.control.recv(1 << 16):
            match decode(datagram):
                case Serve() as request:
                    self.say(Done(request.id, size=512, block_size=512))
                case Drain():
                    time.sleep(3600)
                case Close():
                    os._exit(3)
                case Watch() as request:
                    self.say(Done(request.id))

    def say(self, message: Started | Done) -> None:
        self.control.send(encode(message))


class Bench:
    def __init__(self, template: Template, count: int | None) -> None:
        self.ended = asyncio.Event()
        self.pool = Pool(template, count, self.ended.set)
        self.troubles: list[Exception] = []
        self.told = asyncio.Event()

    def trouble(self, error: Exception) -> None:
        self.troubles.append(error)
        self.told.set()

    async def server(self, entry: UioEntry = ENTRY, *, urgent: bool = False) -> WorkerServer:
        server = WorkerServer(entry, self.pool, TERMS, self.trouble, urgent=urgent)
        with open(os.devnull, "rb") as nothing:
            await server.serve(UioDevice(entry.minor, os.dup(nothing.fileno())), nothing.fileno(), None)
        assert server.pid
        return server


MakeWorker = Callable[[socket.socket], Worker]
Life = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(workers_module, "REASON_SECONDS", PATIENCE)  # the template may be slow to tell

    def live(life: Life, count: int | None = None) -> None:
        template = Template.start(
            cast("MakeWorker", Obedient), cast("Log", None)
        )  # nobody changes the log here

        async def main() -> None:
            bench = Bench(template, count)
            await asyncio.wait_for(life(bench), PATIENCE)
            for worker in list(bench.pool._workers):
                worker.end()

        asyncio.run(main())
        template.close()

    return live


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGUSR2, "SIGUSR2"), (40, "signal 40")]
)
def test_the_end_of_a_worker_is_told_with_its_cause(live: Callable[..., None], number: int, how: str) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        os.kill(server.pid, number)
        await bench.told.wait()
        (trouble,) = bench.troubles
        assert isinstance(trouble, WorkerDiedError)
        await trouble.explained()
        assert str(trouble) == f"its worker process has ended ({how})"
        assert server.ended
        with pytest.raises(DeviceError, match="its worker process has ended"):
            await server.resize(512)

    live(life)


def test_a_worker_that_leaves_answers_nobody(live: Callable[..., None]) -> None:
    async def life(bench: Bench) -> None:
        server = await bench.server()
        worker = server._worker
        with pytest.raises(DeviceError, match=r"has ended \(exit status 3\)"):
            await worker.call(lambda number: Close(number, ENTRY.minor))

    live(life)


def test_one_that_answers_lives_on_and_one_that_hangs_is_killed(
    live: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers_module, "SILENT_SECONDS", 0.5)

    async def life(bench: Bench) -> None:
        server = await bench.server()
        server.watch()
        await asyncio.sleep(0.6)
        assert not server.ended
        hanging = asyncio.ensure_future(server.drain(1))
        await asyncio.sleep(0)
        server.watch()
        with pytest.raises(DeviceError, match="SIGKILL"):
            await hanging
        assert [str(trouble) for trouble in bench.troubles] == ["its worker process has ended (SIGKILL)"]

    live(life)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "has not answered for" in caplog.text
    caplog.clear()


def test_a_shared_worker_takes_all_its_devices_along(live: Callable[..., None]) -> None:
    async def life(bench: Bench) -> None:
        server, other = await bench.server(), await bench.server(OTHER)
        assert server.pid == other.pid
        os.kill(server.pid, signal.SIGKILL)
        while len(bench.troubles) < 2:
            await asyncio.sleep(0.01)
        assert (await bench.server()).pid != server.pid

    live(life, count=1)


def test_devices_have_workers_of_their_own(live: Callable[..., None]) -> None:
    async def life(bench: Bench) -> None:
        server, other = await bench.server(), await bench.server(OTHER)
        assert server.pid != other.pid

    live(life)


def test_one_that_is_killed_before_it_has_said_which_it_is(live: Callable[..., None]) -> None:
    """Until it is dead it may still come to a ring."""

    async def life(bench: Bench) -> None:
        server = WorkerServer(ENTRY, bench.pool, TERMS, bench.trouble, urgent=False)
        assert not server.pid
        server._worker.troubles[ENTRY.minor] = bench.trouble
        server._worker.kill()
        assert not server.ended
        await bench.told.wait()
        assert server.ended

    live(life)


def test_the_end_of_the_template_is_told(live: Callable[..., None]) -> None:
    """All workers go with it: the daemon has to begin anew."""

    async def life(bench: Bench) -> None:
        server = await bench.server()
        with open(f"/proc/{server.pid}/stat") as stat:
            template = int(stat.read().rpartition(") ")[2].split()[1])
        os.kill(template, signal.SIGKILL)
        await bench.ended.wait()
        while not server.ended:
            await asyncio.sleep(0.01)
        assert bench.pool.lost

    live(life)


def test_the_spare_worker_is_left_to_a_device_whose_initiators_wait(
    live: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "QUIET_SECONDS", 0.0)

    async def life(bench: Bench) -> None:
        await bench.server()
        while (spare := bench.pool._spare) is None or not spare.ready:
            await asyncio.sleep(0.01)
        new, waiting = await bench.server(OTHER), await bench.server(urgent=True)
        assert new._worker is not spare
        assert waiting._worker is spare

    live(life)
