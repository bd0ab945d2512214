"""What the front end tells those who see to it that the daemon lives, on an imitated kernel."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from typing import cast

import pytest
from kernel.stub import StubKernel
from kernel.tree import load_module
from support.clock import pass_by, run

from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.guardian.process import RELEASED
from tcmu_runner.handler.registry import Provider, Registry
from tcmu_runner.kernel.genl import Change, Event, EventKind
from tcmu_runner.kernel.netlink import TcmuNetlink
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioEntry
from tcmu_runner.supervisor import events as events_module
from tcmu_runner.supervisor.coexistence import OtherDaemons
from tcmu_runner.supervisor.device import KernelDevice
from tcmu_runner.supervisor.device_manager import DeviceManager
from tcmu_runner.supervisor.events import BEAT_SECONDS, NetlinkEvents
from tcmu_runner.systemd import ServiceManager

from .unserved import unserved

LONG = 20 * BEAT_SECONDS
NAME = "tcm-user/0/vol0/ram/"
ENTRY = UioEntry(0, DeviceName.parse(NAME))


async def at_once(call: Callable[[], object]) -> object:
    return call()


class SlowDeviceManager(DeviceManager):
    """Of no devices; to add one takes until `added` is set, to take over those that are there until `settled`
    is."""

    def __init__(self) -> None:
        """It has nothing of what the real one is made of."""
        self.added = asyncio.Event()
        self.settled = asyncio.Event()
        self._turn = asyncio.Lock()

    def at(self, minor: int) -> KernelDevice | None:
        return None

    def devices(self) -> list[DeviceView]:
        return []

    def handlers(self) -> list[Provider]:
        return []

    def turn(self, minor: int) -> asyncio.Lock:
        return self._turn

    def look_after(self) -> None:
        return

    async def settle(self) -> None:
        await self.settled.wait()

    async def add(self, entry: UioEntry) -> None:
        await self.added.wait()

    async def stop(self) -> None:
        return


class Manager(ServiceManager):
    def __init__(self) -> None:
        super().__init__("")
        self.watchdog_seconds = 0.0
        self.heard = 0

    def ping(self) -> None:
        self.heard += 1


class Bench:
    """A front end that runs, and the guardian's end of the line to it."""

    def __init__(self, paths: Paths, kernel: StubKernel) -> None:
        self.kernel = kernel
        self.manager = Manager()
        self.guardian, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.guardian.setblocking(False)
        self._line = Guardian(ours, -1)
        self._paths = paths
        self.device_manager: SlowDeviceManager

    async def run(self, life: Callable[["Bench"], Awaitable[None]]) -> None:
        self.device_manager, stop = SlowDeviceManager(), asyncio.Event()
        events = NetlinkEvents(
            self.device_manager,
            self._paths,
            self._line,
            self.manager,
            other_daemons=OtherDaemons(Registry(), ()),
        )
        running = asyncio.create_task(events.run(stop))
        await life(self)
        stop.set()
        await running

    def heard(self) -> list[str]:
        """By the guardian, since it was asked last."""
        words: list[str] = []
        with suppress(BlockingIOError):
            while datagram := self.guardian.recv(64):  # empty: its end is closed
                words.append(datagram.decode())
        return words

    async def beats(self) -> None:
        """Once a second, and the guardian hears nothing else."""
        before = self.heard()
        await pass_by(LONG)
        assert set(before) <= {"beat"}
        assert self.heard() in (["beat"] * 20, ["beat"] * 21)

    async def begins(self) -> None:
        self.device_manager.settled.set()
        await pass_by(LONG)

    def close(self) -> None:
        self.guardian.close()
        self._line.say_goodbye()


Life = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def bench(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    load_module(paths)
    kernel = StubKernel()
    monkeypatch.setattr(events_module, "TcmuNetlink", lambda: TcmuNetlink(port=kernel.port))
    monkeypatch.setattr(events_module, "in_thread", at_once)  # the loop does not wait for threads
    with closing(Bench(paths, kernel)) as bench:
        yield bench
    kernel.check()


def test_it_beats_while_devices_are_taken_over_and_after_that(bench: Bench) -> None:
    """A storage that took ten seconds to open made the guardian end the kernel's waits."""

    async def life(bench: Bench) -> None:
        await bench.beats()
        bench.device_manager.settled.set()
        await bench.beats()

    run(bench.run(life))
    assert bench.heard() == ["bye"]


def test_it_beats_while_the_kernel_waits(bench: Bench) -> None:
    async def life(bench: Bench) -> None:
        await bench.begins()
        enable = bench.kernel.add(0, NAME)
        await bench.beats()
        assert enable.status is None
        bench.device_manager.added.set()
        await bench.beats()
        assert enable.status == 0

    run(bench.run(life))


def test_after_a_stall_it_listens_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def life(bench: Bench) -> None:
        await bench.begins()
        bench.kernel.replies_wanted = False
        bench.guardian.send(RELEASED.encode())
        await bench.beats()
        assert bench.kernel.replies_wanted

    run(bench.run(life))
    caplog.clear()


@pytest.mark.parametrize(("seconds", "least", "most"), [(3.0, 20, 21), (0.0, 0, 0)])
def test_systemds_watchdog_is_fed_where_it_is_on(bench: Bench, seconds: float, least: int, most: int) -> None:
    bench.manager.watchdog_seconds = seconds

    async def life(bench: Bench) -> None:
        await bench.begins()
        assert least <= bench.manager.heard <= most

    run(bench.run(life))


def test_it_says_that_it_is_ready_once_the_kernel_takes_new_devices(
    bench: Bench, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = paths.module / "target_core_user/parameters/block_netlink"
    seen: list[tuple[str, str]] = []

    def note(text: str, *words: object) -> None:
        seen.append((text % words, gate.read_text()))

    monkeypatch.setattr(events_module.log, "info", note)

    async def life(bench: Bench) -> None:
        await bench.begins()

    run(bench.run(life))
    assert seen == [("0 handlers found, 0 devices found", "0")]


def test_a_change_for_which_there_is_no_case_is_not_accepted(paths: Paths) -> None:
    """mypy finds it first: a member of genl.Change that nobody handles."""

    class Known(SlowDeviceManager):
        def at(self, minor: int) -> KernelDevice:
            return unserved(ENTRY)

    line, guardian = socket.socketpair()
    with line, guardian:
        events = NetlinkEvents(
            Known(),
            paths,
            Guardian(line, -1),
            Manager(),
            other_daemons=OtherDaemons(Registry(), ()),
        )
        event = Event(EventKind.RECONFIG, NAME, 0, 1, 2, cast("Change", "of a new kind"))
        with pytest.raises(AssertionError, match="of a new kind"):
            asyncio.run(events._reconfigured(event))
