"""What the front end tells those who see to it that the daemon lives, on an imitated kernel."""

import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest

from tcmu_runner.handler.registry import Offer, Registry
from tcmu_runner.kernel import frontend as frontend_module
from tcmu_runner.kernel import pulse as pulse_module
from tcmu_runner.kernel.alarm import Alarm
from tcmu_runner.kernel.foreign import Foreign
from tcmu_runner.kernel.frontend import Frontend
from tcmu_runner.kernel.genl import Event
from tcmu_runner.kernel.guardian import RELEASED, Guardian
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.pulse import QUIET_BEATS
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.systemd import ServiceManager

from .stub import StubKernel
from .tree import load_module

BEAT_SECONDS = 0.01
LONG = 20 * BEAT_SECONDS
NAME = "tcm-user/0/vol0/ram/"
FALLEN_ASLEEP = ["beat"] * QUIET_BEATS + ["rest"]


class SlowFleet:
    """Of no devices; to add one takes until `added` is set."""

    def __init__(self) -> None:
        self.added = asyncio.Event()
        self._turn = asyncio.Lock()

    def at(self, _minor: int) -> None:
        return None

    def devices(self) -> list[None]:
        return []

    def handlers(self) -> list[Offer]:
        return []

    def turn(self, _minor: int) -> asyncio.Lock:
        return self._turn

    def look_after(self) -> bool:
        return False

    async def add(self, _entry: UioEntry) -> None:
        await self.added.wait()

    async def stop(self) -> None:
        return


class Manager(ServiceManager):
    def __init__(self) -> None:
        super().__init__("")
        self.patience = 0.0
        self.heard = 0

    def alive(self) -> None:
        self.heard += 1


class Bench:
    """A front end that runs, and the guardian's end of the line to it."""

    def __init__(self, paths: Paths, kernel: StubKernel) -> None:
        self.kernel = kernel
        self.manager = Manager()
        self.guardian, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.guardian.setblocking(False)
        self._line = Guardian(ours)
        self._paths = paths
        self.kernels = -1  # descriptor on which the kernel speaks
        self.fleet: SlowFleet

    async def run(self, life: Callable[["Bench"], Awaitable[None]]) -> None:
        self.fleet, stop = SlowFleet(), asyncio.Event()
        frontend = Frontend(
            self.fleet,  # type: ignore[arg-type]
            self._paths,
            self._line,
            Alarm(),
            self.manager,
            foreign=Foreign(Registry(), ()),
        )
        running = asyncio.create_task(frontend.run(stop))
        await life(self)
        stop.set()
        await running

    def heard(self) -> list[str]:
        """By the guardian, since it was asked last."""
        words = []
        while True:
            try:
                datagram, descriptors, _, _ = socket.recv_fds(self.guardian, 64, 1)
            except BlockingIOError:
                return words
            words.append(datagram.decode())
            if descriptors:
                (self.kernels,) = descriptors

    async def rests(self) -> None:
        """From its start on."""
        await asyncio.sleep(LONG)
        assert self.heard() == ["hear", *FALLEN_ASLEEP]

    def close(self) -> None:
        self.guardian.close()
        self._line.say_goodbye()
        if self.kernels >= 0:
            os.close(self.kernels)


Life = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def bench(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    load_module(paths)
    kernel = StubKernel()
    monkeypatch.setattr(pulse_module, "BEAT_SECONDS", BEAT_SECONDS)
    monkeypatch.setattr(frontend_module, "TcmuNetlink", lambda: TcmuNetlink(port=kernel.port))
    with closing(Bench(paths, kernel)) as bench:
        yield bench
    kernel.check()


def test_while_it_rests_the_guardian_sees_that_the_kernel_wants_something(bench: Bench) -> None:
    async def life(bench: Bench) -> None:
        await bench.rests()
        assert not select.select([bench.kernels], [], [], 0)[0]
        bench.fleet.added.set()
        bench.kernel.add(0, NAME)
        assert select.select([bench.kernels], [], [], 0)[0]
        await asyncio.sleep(LONG)
        assert bench.heard() == FALLEN_ASLEEP

    asyncio.run(bench.run(life))


def test_it_beats_before_it_takes_an_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would notice that it stands still with the event in its hands."""
    before: list[str] = []
    receive = TcmuNetlink.receive

    def noted(netlink: TcmuNetlink) -> list[Event]:
        before.extend(bench.heard())
        return receive(netlink)

    monkeypatch.setattr(TcmuNetlink, "receive", noted)

    async def life(bench: Bench) -> None:
        await bench.rests()
        bench.fleet.added.set()
        bench.kernel.add(0, NAME)
        await asyncio.sleep(LONG)

    asyncio.run(bench.run(life))
    assert before == ["beat"]


def test_it_does_not_rest_while_the_kernel_waits(bench: Bench) -> None:
    async def life(bench: Bench) -> None:
        await bench.rests()
        enable = bench.kernel.add(0, NAME)
        await asyncio.sleep(LONG)
        assert set(bench.heard()) == {"beat"}
        assert enable.status is None
        bench.fleet.added.set()
        await asyncio.sleep(LONG)
        assert enable.status == 0
        assert bench.heard()[-1] == "rest"

    asyncio.run(bench.run(life))


def test_after_a_stall_it_beats_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def life(bench: Bench) -> None:
        await bench.rests()
        bench.kernel.replies_wanted = False
        bench.guardian.send(RELEASED.encode())
        await asyncio.sleep(LONG)
        assert bench.heard() == FALLEN_ASLEEP
        assert bench.kernel.replies_wanted

    asyncio.run(bench.run(life))
    caplog.clear()


@pytest.mark.parametrize(("patience", "least", "most"), [(0.06, 4, 30), (0.0, 0, 0)])
def test_only_systemds_watchdog_keeps_it_from_sleeping(
    bench: Bench, patience: float, least: int, most: int
) -> None:
    bench.manager.patience = patience

    async def life(bench: Bench) -> None:
        await bench.rests()
        assert least <= bench.manager.heard <= most

    asyncio.run(bench.run(life))
