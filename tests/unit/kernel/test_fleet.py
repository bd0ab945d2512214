"""The fleet on a tree of files that imitates the kernel's, with servers that end and refuse as the test says:
what state a device is in, what is told of it, and what an administrator gets."""

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tcmu_runner.engine.threads import in_thread
from tcmu_runner.engine.view import Controllable, DeviceView, State
from tcmu_runner.errors import DeviceError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.kernel import fleet as fleet_module
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.fleet import Fleet, RefusedError
from tcmu_runner.kernel.go_ahead import GoAhead, wait_for
from tcmu_runner.kernel.guardian import Guardian
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.servers import Trouble
from tcmu_runner.kernel.uio import DeviceName, UioDevice, UioEntry

from .tree import MuteAlarm, make_backstore, make_uio

NAME = "user_0/vol0"
DOWN = OSError(errno.EHOSTDOWN, "the storage is down")
QUIET_RING = bytes(4096)
ENTRY = UioEntry(0, DeviceName(0, "vol0", "ram/"))


class Scripted:
    """A server of 1 MiB; the next opening, attaching, draining or resizing goes as the list says, then all is
    well."""

    pid = 4711
    ended = False

    def __init__(self, script: list[Exception | bool], trouble: Trouble) -> None:
        self.script = script
        self.trouble = trouble
        self.looks = 0

    def _next(self) -> bool:
        step = self.script.pop(0) if self.script else True
        if isinstance(step, Exception):
            raise step
        return step

    async def serve(self, uio: UioDevice, statistics: int, go_ahead: GoAhead | None) -> tuple[int, int]:
        self._next()
        if go_ahead is not None:
            await in_thread(lambda: wait_for(go_ahead.waits_at))
        self._next()
        return 1 << 20, 512

    async def drain(self, seconds: float) -> bool:
        return self._next()

    async def resize(self, size: int) -> None:
        self._next()

    async def control(self, layer: str, table: dict[str, object]) -> dict[str, object]:
        self._next()
        return {"layer": layer, **table}

    async def close(self) -> None:
        return

    def watch(self) -> None:
        self.looks += 1

    def kill(self) -> None:
        self.ended = True


class Bench:
    """A fleet with one device in the tree, and the servers it made."""

    def __init__(self, paths: Paths) -> None:
        self.action = make_backstore(paths) / "action"
        make_uio(paths, name=str(ENTRY.name).encode(), size=len(QUIET_RING))
        self.node = paths.dev / "uio0"
        self.node.write_bytes(QUIET_RING)
        self.script: list[Exception | bool] = []
        self.servers: list[Scripted] = []
        self.changes: list[str] = []
        registry = Registry()
        registry.add(RamHandler)
        self.guardian, self._other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.alarm = MuteAlarm()
        self.fleet = Fleet(registry, paths, Guardian(self.guardian), self.alarm, self._make_server)
        self.fleet.watch(self.changes.append)
        self.control: Controllable = self.fleet

    def _make_server(self, _entry: UioEntry, trouble: Trouble, _urgent: bool) -> Scripted:
        self.servers.append(Scripted(self.script, trouble))
        return self.servers[-1]

    def close(self) -> None:
        self.guardian.close()
        self._other_end.close()

    def put_a_command(self) -> None:
        """On the ring, as the kernel does: the head moves on."""
        head = struct.pack("=I", 128)
        self.node.write_bytes(QUIET_RING[:12] + head + QUIET_RING[16:])

    @property
    def device(self) -> DeviceView:
        (view,) = self.control.devices()
        return view

    @property
    def blocked(self) -> bool:
        return (self.action / "block_dev").read_text() == "1"

    @property
    def reset(self) -> str:
        return (self.action / "reset_ring").read_text()

    async def until(self, state: State) -> None:
        while self.device.state is not state:
            await asyncio.sleep(0.001)


Life = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def live(paths: Paths) -> Iterator[Callable[[Life], Bench]]:
    bench = Bench(paths)

    def live(life: Life) -> Bench:
        async def main() -> None:
            await life(bench)

        asyncio.run(main())
        return bench

    yield live
    bench.close()


def told(bench: Bench) -> list[str]:
    return [happening.text for happening in bench.control.happenings()]


def test_a_device_that_is_added_and_removed(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        view = bench.device
        assert (view.name, view.minor, view.handler, view.config) == (NAME, 0, "ram", "ram/")
        assert (view.size, view.block_size, view.state, view.pid) == (1 << 20, 512, State.SERVING, 4711)
        assert (view.last_error, view.restarts, view.statistics.opcodes) == ("", 0, ())
        await bench.fleet.remove(0)
        assert bench.control.devices() == []

    bench = live(life)
    assert told(bench) == ["added, 1 MiB in blocks of 512 bytes", "removed"]
    assert [happening.level for happening in bench.control.happenings()] == [logging.INFO, logging.INFO]
    assert set(bench.changes) == {NAME}


def test_a_refusal_leaves_nothing_but_its_reason(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [OSError(errno.ENOENT, "no such file", "/srv/x")]
        with pytest.raises(RefusedError) as refused:
            await bench.fleet.add(ENTRY)
        assert refused.value.errno == errno.ENOENT
        assert bench.control.devices() == []

    assert "refused: [Errno 2] no such file: '/srv/x': create" in told(live(life))[0]
    assert caplog.messages[0].startswith("user_0/vol0 (ram/): refused")
    caplog.clear()


def test_a_server_that_ends_is_replaced(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module.Recovery, "trouble", lambda *_: (2, 0.05))

    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        bench.servers[0].trouble(DeviceError("its worker process has ended"))
        bench.servers[0].ended = True
        await bench.until(State.WAITING)
        while not bench.blocked:  # initiators try again meanwhile
            await asyncio.sleep(0.001)
        assert bench.device.last_error == "its worker process has ended; everything under way is retried"
        await bench.until(State.SERVING)
        assert bench.device.restarts == 1
        assert not bench.blocked

    assert told(live(life))[-2:] == ["in trouble 2 times in a row, next try in 0.1 s", "served again"]
    caplog.clear()


def test_a_ring_that_cannot_be_emptied_is_why_a_server_cannot_serve(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        reset = bench.action / "reset_ring"
        reset.unlink()
        reset.mkdir()
        with pytest.raises(DeviceError, match="cannot write '1' to action/reset_ring: Is a directory"):
            await bench.control.restart(NAME)
        assert bench.servers[-1].ended
        assert bench.blocked
        reset.rmdir()
        await bench.until(State.SERVING)

    live(life)
    caplog.clear()


def test_a_device_that_cannot_be_taken_over_is_seen_and_can_be_tried_again(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [OSError(errno.ENOENT, "no such file"), OSError(errno.ENOENT, "still no such file")]
        await bench.fleet.adopt(ENTRY)
        assert bench.device.state is State.FAILED
        assert "no such file" in bench.device.last_error
        assert bench.blocked
        with pytest.raises(DeviceError, match="still no such file"):
            await bench.control.restart(NAME)
        await bench.control.restart(NAME)
        assert (bench.device.state, bench.device.last_error) == (State.SERVING, "")
        assert not bench.blocked

    live(life)
    caplog.clear()


def test_drained_until_its_restart(live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        bench.script[:] = [False]
        assert not await bench.control.drain(NAME, 0)
        assert (bench.device.state, bench.blocked) == (State.SERVING, False)
        assert await bench.control.drain(NAME, 0)
        assert (bench.device.state, bench.device.pid, bench.blocked) == (State.STOPPED, 0, True)
        bench.servers[0].trouble(DeviceError("late news of the old server"))
        await asyncio.sleep(0)
        with pytest.raises(DeviceError, match="vol0 is stopped"):
            await bench.control.drain(NAME, 0)
        await bench.control.restart(NAME)
        assert (bench.device.state, bench.device.pid, bench.blocked) == (State.SERVING, 4711, False)

    live(life)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()


@pytest.mark.parametrize("failure", [[DOWN], [True, DOWN]], ids=["open", "attach"])
def test_a_restart_that_fails_leaves_it_blocked_is_told_and_tried_again(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, failure: list[Exception | bool]
) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        bench.script[:] = failure
        with pytest.raises(DeviceError, match="the storage is down"):
            await bench.control.restart(NAME)
        assert (bench.blocked, bench.reset) == (True, "1")
        assert bench.servers[1].ended
        await bench.until(State.SERVING)
        assert not bench.blocked
        assert "the storage is down" in bench.device.last_error

    live(life)
    caplog.clear()


def test_resizes_go_through_the_kernel(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        await bench.control.resize(NAME, 2 << 20)
        assert (bench.action.parent / "attrib/dev_size").read_text() == str(2 << 20)

    live(life)


def test_a_resize_that_is_refused_tells_our_reason(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's part: the write waits for our answer to the event and fails with the errno in it."""

    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        loop = asyncio.get_running_loop()
        device = bench.fleet.at(0)
        assert device is not None

        def set_size(_store: Backstore, size: int) -> None:
            asked = asyncio.run_coroutine_threadsafe(bench.fleet.set_size(device, size), loop)
            raise OSError(asked.exception().errno, "cannot write attrib/dev_size")  # type: ignore[union-attr]

        monkeypatch.setattr(Backstore, "set_size", set_size)
        for _ in range(2):  # the same words twice are no old news
            bench.script[:] = [OSError(errno.ENOSPC, "no room")]
            with pytest.raises(DeviceError, match=r"user_0/vol0: cannot be resized .*no room") as caught:
                await bench.control.resize(NAME, 2 << 20)
            assert caught.value.errno == errno.ENOSPC

    live(life)
    caplog.clear()


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda control: control.drain("user_0/vol1", 1), "no device 'user_0/vol1'; there are: user_0/vol0"),
        (lambda control: control.restart("vol0"), "no device 'vol0'"),
        (lambda control: control.resize("", 1), "no device ''"),
        (lambda control: control.drain(NAME, 3600), "3600 s: give 0 to 60 s"),
        (lambda control: control.drain(NAME, -1), "-1 s: give 0 to 60 s"),
        (lambda control: control.drain(NAME, float("nan")), "nan s: give 0 to 60 s"),
    ],
)
def test_what_cannot_be_done_is_named(
    live: Callable[[Life], Bench], ask: Callable[[Controllable], Awaitable[object]], why: str
) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        with pytest.raises(DeviceError, match=why):
            await ask(bench.control)

    live(life)


def test_a_layer_is_changed_and_the_log_has_it(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        assert await bench.control.control(NAME, "error", {"rules": []}) == {"layer": "error", "rules": []}
        assert "error is changed: {'rules': []}" in bench.fleet.happenings()[-1].text
        bench.servers[-1].script = [OSError(errno.EINVAL, "no layer 'fault'")]
        with pytest.raises(DeviceError, match=r"user_0/vol0: .*no layer 'fault'") as caught:
            await bench.control.control(NAME, "fault", {})
        assert caught.value.errno == errno.EINVAL
        await bench.control.drain(NAME, 1)
        with pytest.raises(DeviceError, match="not served at the moment") as caught:
            await bench.control.control(NAME, "error", {})
        assert caught.value.errno == errno.EAGAIN

    live(life)


def test_a_minor_that_is_used_again_has_one_device(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [OSError(errno.ENOENT, "no such file")]
        await bench.fleet.adopt(ENTRY)
        other = UioEntry(0, DeviceName(0, "vol1", "ram/"))
        await bench.fleet.add(other)
        assert (bench.device.name, bench.device.state) == ("user_0/vol1", State.SERVING)

    live(life)
    caplog.clear()


def test_the_end_stops_every_device(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        await bench.fleet.stop()
        assert (bench.device.state, bench.blocked) == (State.STOPPED, True)

    live(life)


def test_a_server_that_dies_at_the_end_keeps_nobody_from_stopping(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        bench.script[:] = [DeviceError("its worker process has ended")]
        await bench.fleet.stop()
        assert (bench.device.state, bench.blocked, bench.reset) == (State.STOPPED, True, "1")

    assert told(live(life))[-1] == "its commands did not end in 25 s, and are retried"
    caplog.clear()


def test_a_server_is_asked_while_something_happens_on_its_ring(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        assert not bench.fleet.look_after()
        assert bench.servers[0].looks == 0
        bench.put_a_command()
        assert bench.fleet.look_after()
        assert bench.servers[0].looks == 1

    live(life)


def test_commands_that_wait_for_a_server_count(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever rested meanwhile would not notice that this server hangs from its first command on."""

    async def life(bench: Bench) -> None:
        await bench.fleet.add(ENTRY)
        bench.script[:] = [DOWN]
        with pytest.raises(DeviceError, match="the storage is down"):
            await bench.control.restart(NAME)
        assert bench.device.pid == 0
        bench.put_a_command()
        assert bench.fleet.look_after()
        await bench.until(State.SERVING)

    live(life)
    caplog.clear()


def test_the_alarm_is_set_while_a_device_is_open(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [DOWN]
        with pytest.raises(RefusedError):
            await bench.fleet.add(ENTRY)
        assert not bench.alarm.watched
        for end in (lambda: bench.fleet.remove(0), bench.fleet.stop):
            await bench.fleet.add(ENTRY)
            assert len(bench.alarm.watched) == 1
            await end()
            assert not bench.alarm.watched

    live(life)
    caplog.clear()
