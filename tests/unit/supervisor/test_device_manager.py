"""The device manager on an imitated kernel, with servers that end and refuse as the test says: what state a
device is in, what is said of it, and what an administrator gets."""

import asyncio
import errno
import logging
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kernel.tree import make_backstore, make_uio
from support.waiting import eventually

from tcmu_runner.engine.observe.view import Controllable, DeviceView, State
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.engine.unit_memory import Record
from tcmu_runner.errors import DeviceError
from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.handler.device import Origin
from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceGone, DeviceName, UioDevice, UioEntry
from tcmu_runner.supervisor.backoff import RestartBackoff
from tcmu_runner.supervisor.device_manager import SERIAL_SECONDS, DeviceManager, DeviceRefusedError
from tcmu_runner.supervisor.origins import ServedBefore
from tcmu_runner.supervisor.serials import Serials
from tcmu_runner.workers.handle import WorkerDiedError
from tcmu_runner.workers.server import Trouble
from tcmu_runner.workers.state_files import StateFiles

NAME = "user_0/vol0"
DOWN = OSError(errno.EHOSTDOWN, "the storage is down")
QUIET_RING = bytes(4096)
ENTRY = UioEntry(0, DeviceName(0, "vol0", "ram/"))


class Scripted:
    """A server of 1 MiB; the next opening, attaching, draining or resizing goes as the list says, then all is
    well. It notes in `found` what another one has left of the LUN's state, and leaves `state`."""

    pid = 4711
    ended = False

    def __init__(
        self,
        script: list[Exception | bool],
        trouble: Trouble,
        state: dict[str, object],
        found: list[dict[str, object] | None],
    ) -> None:
        self.script = script
        self.state = state
        self.found = found
        self.trouble = trouble
        self.looks = 0
        self.adjusted: list[Overrides] = []

    def _next(self) -> bool:
        step = self.script.pop(0) if self.script else True
        if isinstance(step, Exception):
            raise step
        return step

    async def serve(self, uio: UioDevice, statistics: int, state: StateFiles) -> tuple[int, int]:
        self._next()
        record = Record(state.descriptors[0])
        self.found.append(record.load())
        record.store(self.state)
        self._next()
        return 1 << 20, 512

    async def drain(self, seconds: float) -> bool:
        return self._next()

    async def resize(self, size: int) -> None:
        self._next()

    async def control(self, layer: str, table: dict[str, object]) -> dict[str, object]:
        self._next()
        return {"layer": layer, **table}

    async def adjust(self, overrides: Overrides) -> None:
        self._next()
        self.adjusted.append(overrides)

    async def close(self) -> None:
        return

    def watch(self) -> None:
        self.looks += 1

    def kill(self) -> None:
        self.ended = True


class Pauses:
    """Before a device is tried again: how long each should be; they are over when `end` is set."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.end = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.end.wait()


class Bench:
    """A device manager with one device in the tree, and the servers it made."""

    def __init__(self, paths: Paths, serial_seconds: float = SERIAL_SECONDS) -> None:
        self.paths = paths
        self.action = make_backstore(paths) / "action"
        make_uio(paths, name=str(ENTRY.name).encode(), size=len(QUIET_RING))
        self.node = paths.dev / "uio0"
        self.node.write_bytes(QUIET_RING)
        self.script: list[Exception | bool] = []
        self.servers: list[Scripted] = []
        self.origins: list[Origin] = []
        self.served = ServedBefore(paths.uio.parent / "served", "this boot")
        self.changes: list[str] = []
        self.state: dict[str, object] = {}  # that every server leaves
        self.found: list[dict[str, object] | None] = []  # by each
        registry = Registry()
        registry.add(RamHandler)
        self.guardian, self._other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.serials = Serials(paths.target.parent / "serials.json", paths.target.parent / "machine-id")
        guardian = Guardian(self.guardian, -1)
        self.pauses = Pauses()
        self.device_manager = DeviceManager(
            registry, paths, guardian, self._make_server,
            served_before=self.served, serials=self.serials, pause=self.pauses, serial_seconds=serial_seconds,
        )  # fmt: skip
        self.device_manager.subscribe(self.changes.append)
        self.control: Controllable = self.device_manager

    def _make_server(self, _entry: UioEntry, trouble: Trouble, origin: Origin) -> Scripted:
        self.origins.append(origin)
        self.servers.append(Scripted(self.script, trouble, self.state, self.found))
        return self.servers[-1]

    def close(self) -> None:
        self.guardian.close()
        self._other_end.close()

    def put_a_command(self) -> None:
        """On the ring, as the kernel does: the head moves on."""
        head = struct.pack("=I", 128)
        self.node.write_bytes(QUIET_RING[:12] + head + QUIET_RING[16:])

    def told_the_guardian(self) -> str:
        """The next message."""
        return self._other_end.recv(64, socket.MSG_DONTWAIT).decode()

    @property
    def device(self) -> DeviceView:
        (view,) = self.control.devices()
        return view

    @property
    def blocked(self) -> bool:
        return (self.action / "block_dev").read_text() == "1"

    @property
    def mapped(self) -> bool:
        """Whether the ring is, in this process: until then the kernel keeps a removed device."""
        return str(self.node) in Path("/proc/self/maps").read_text()

    @property
    def reset(self) -> str:
        return (self.action / "reset_ring").read_text()

    async def servers_that_began(self, count: int) -> None:
        """RECOVERING may be over before anybody looks."""
        await eventually(lambda: len(self.found) >= count)

    async def until(self, state: State) -> None:
        await eventually(lambda: self.device.state is state)


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
    return [device_event.text for device_event in bench.control.device_events()]


def test_a_device_that_is_added_and_removed(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        view = bench.device
        assert (view.name, view.minor, view.handler, view.config) == (NAME, 0, "ram", "ram/")
        assert (view.size, view.block_size, view.state, view.pid) == (1 << 20, 512, State.SERVING, 4711)
        assert (view.last_error, view.restarts, view.statistics.opcodes) == ("", 0, ())
        await bench.device_manager.remove(0)
        assert bench.control.devices() == []

    bench = live(life)
    assert told(bench) == ["added, 1 MiB in blocks of 512 bytes", "removed"]
    assert [device_event.level for device_event in bench.control.device_events()] == [
        logging.INFO,
        logging.INFO,
    ]
    assert set(bench.changes) == {NAME}


def test_a_refusal_leaves_nothing_but_its_reason(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [OSError(errno.ENOENT, "no such file", "/srv/x")]
        with pytest.raises(DeviceRefusedError) as refused:
            await bench.device_manager.add(ENTRY)
        assert refused.value.errno == errno.ENOENT
        assert bench.control.devices() == []

    assert "refused: [Errno 2] no such file: '/srv/x': create" in told(live(life))[0]
    assert caplog.messages[0].startswith("user_0/vol0 (ram/): refused")
    caplog.clear()


def test_a_server_that_ends_is_replaced(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestartBackoff, "trouble", lambda *_: (2, 1.0))

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        bench.servers[0].trouble(DeviceError("worker process ended"))
        bench.servers[0].ended = True
        await bench.until(State.WAITING)
        await eventually(lambda: bench.blocked)  # initiators try again meanwhile
        assert bench.device.last_error == "worker process ended: initiators retry the commands under way"
        bench.pauses.end.set()
        await bench.until(State.SERVING)
        assert bench.pauses.asked == [1.0]
        assert bench.device.restarts == 1
        assert not bench.blocked

    assert told(live(life))[-2:] == ["failed 2 times in a row: next try in 1.0 s", "served again"]
    caplog.clear()


def test_a_server_that_ends_in_an_error_without_a_text_has_a_cause_in_the_log(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        bench.servers[0].trouble(TimeoutError())
        await eventually(lambda: "initiators retry" in caplog.text)
        await bench.until(State.SERVING)

    lines = told(live(life))
    assert any("the handler did not answer in time" in line for line in lines if "initiators retry" in line)
    caplog.clear()


def test_a_new_server_that_ends_before_the_log_knows_why_the_old_one_did_is_replaced(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """The line "served again" is written late, and must not hide that it is not true any longer."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        first = WorkerDiedError(reason_seconds=60)  # of which nobody knows yet how
        bench.servers[0].trouble(first)
        await bench.servers_that_began(2)
        bench.servers[1].trouble(DOWN)
        await asyncio.sleep(0)
        first.explain(signal.SIGKILL)
        await asyncio.wait_for(bench.servers_that_began(3), 60)
        await bench.until(State.SERVING)

    assert told(live(life))[-1] == "served again"
    caplog.clear()


def test_a_restart_on_request_ends_the_wait_for_the_next_try(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RestartBackoff, "trouble", lambda *_: (9, 30.0))

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        first = WorkerDiedError(reason_seconds=60)
        bench.servers[0].trouble(first)
        bench.servers[0].ended = True
        await bench.until(State.RECOVERING)
        await bench.control.restart(NAME)
        first.explain(signal.SIGKILL)
        await eventually(lambda: "worker process ended (SIGKILL)" in bench.device.last_error)
        bench.pauses.end.set()
        await eventually(lambda: not bench.device_manager._tasks._running)
        assert (bench.device.state, len(bench.servers)) == (State.SERVING, 2)
        assert not bench.blocked

    live(life)
    caplog.clear()


def test_no_server_starts_on_a_ring_that_cannot_be_emptied(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        reset = bench.action / "reset_ring"
        reset.unlink()
        reset.mkdir()
        with pytest.raises(DeviceError, match="cannot write '1' to action/reset_ring: Is a directory"):
            await bench.control.restart(NAME)
        assert len(bench.servers) == 1  # the one that was stopped
        assert bench.blocked
        reset.rmdir()
        reset.touch()
        await bench.until(State.SERVING)

    live(life)
    caplog.clear()


def test_a_device_that_cannot_be_taken_over_is_seen_and_can_be_tried_again(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [OSError(errno.ENOENT, "no such file"), OSError(errno.ENOENT, "still no such file")]
        await bench.device_manager.adopt(ENTRY)
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


def test_a_device_that_is_removed_while_it_is_taken_over_is_no_error(live: Callable[[Life], Bench]) -> None:
    """No warning: the test's log has to stay quiet."""

    async def life(bench: Bench) -> None:
        bench.script = [DeviceGone(Path("/dev/uio0"))]
        await bench.device_manager.adopt(ENTRY)
        assert (bench.device.state, bench.device.last_error) == (State.FAILED, "")

    live(life)


def test_drained_until_its_restart(live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
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
        await bench.device_manager.add(ENTRY)
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


def test_two_of_one_identifier_are_in_the_log(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    """LIO's tools set the serial after they have enabled the device, so that it is looked at later."""
    make_backstore(paths, 1, "vol1")

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await eventually(lambda: len(told(bench)) >= 2)
        assert "same identifier as user_1/vol1, naa.6001405" in told(bench)[-1]

    with closing(Bench(paths, serial_seconds=0)) as bench:
        asyncio.run(life(bench))
    caplog.clear()


def test_two_of_one_name_below_two_hbas_are_in_the_log(
    live: Callable[[Life], Bench], paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """The settings, and the files of filters, of one would be those of the other."""
    make_backstore(paths, 1, "vol0")
    make_uio(paths, 1, b"tcm-user/1/vol0/ram/", len(QUIET_RING))
    (paths.dev / "uio1").write_bytes(QUIET_RING)

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await bench.device_manager.add(UioEntry(1, DeviceName(1, "vol0", "ram/")))

    assert told(live(life))[1].startswith("same name as user_0/vol0: settings and filters' files")
    assert caplog.messages[-1].startswith("user_1/vol0 (ram/): same name")
    caplog.clear()


def test_one_whose_removal_was_missed_is_no_namesake(
    live: Callable[[Life], Bench], paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel has one of each name: the older one is gone."""
    make_uio(paths, 1, str(ENTRY.name).encode(), len(QUIET_RING))
    (paths.dev / "uio1").write_bytes(QUIET_RING)

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await bench.device_manager.add(UioEntry(1, ENTRY.name))

    live(life)
    assert not [message for message in caplog.messages if "same name" in message]


def test_a_device_without_a_serial_gets_one(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        file = bench.action.parent / "wwn/vpd_unit_serial"
        file.write_text("T10 VPD Unit Serial Number: \n")
        await bench.device_manager.add(ENTRY)
        assert file.read_text() == bench.serials.of(NAME) != ""
        await bench.device_manager.remove(0)
        assert bench.serials.of(NAME) == ""

    live(life)


def test_resizes_go_through_the_kernel(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await bench.control.resize(NAME, 2 << 20)
        assert (bench.action.parent / "attrib/dev_size").read_text() == str(2 << 20)

    live(life)


def test_a_size_that_is_written_again_is_nothing_new(live: Callable[[Life], Bench]) -> None:
    """As restoreconfig does with every attribute."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        device = bench.device_manager.at(0)
        assert device is not None
        await bench.device_manager.set_size(device, 1 << 20)
        await bench.device_manager.set_size(device, 2 << 20)

    assert told(live(life))[1:] == ["resized to 2 MiB"]


@pytest.mark.parametrize("cached", [True, False])
def test_the_write_cache_is_shown_and_not_switched(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    async def life(bench: Bench) -> None:
        bench.state = {"write_cache": cached}
        await bench.device_manager.add(ENTRY)
        shown = (bench.action.parent / "attrib/emulate_write_cache").read_text()
        assert shown.strip() == str(int(cached))  # what LIO's tools save and write again is so
        device = bench.device_manager.at(0)
        assert device is not None
        await bench.device_manager.set_write_cache(device, cached)
        with pytest.raises(DeviceRefusedError) as refused:
            await bench.device_manager.set_write_cache(device, not cached)
        assert refused.value.errno == errno.EOPNOTSUPP  # as the C daemon

    verb = "clear" if cached else "set"
    assert told(live(life))[1:] == [
        "emulate_write_cache shows the write cache and does not switch it: have an initiator do so "
        f"(sdparm --{verb}=WCE DISK)"
    ]
    caplog.clear()


def test_what_a_device_remembers_ends_with_it(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.state = {"stopped": True}
        await bench.device_manager.add(ENTRY)
        bench.servers[-1].trouble(DOWN)
        await bench.servers_that_began(2)
        await bench.until(State.SERVING)
        assert bench.found == [None, {"stopped": True}]  # the second server knows of it
        await bench.device_manager.stop()
        await bench.device_manager.adopt(ENTRY)
        assert bench.found[2] == {"stopped": True}
        await bench.device_manager.remove(0)
        await bench.device_manager.add(ENTRY)
        assert bench.found[3] is None

    bench = live(life)
    assert [file.name[:5] for file in (bench.paths.run / "units").iterdir()] == ["vol0."]
    caplog.clear()


def test_a_device_that_is_refused_leaves_no_state(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [DOWN]
        with pytest.raises(DeviceRefusedError):
            await bench.device_manager.add(ENTRY)

    bench = live(life)
    assert not list((bench.paths.run / "units").iterdir())
    assert not list((bench.paths.state / "units").iterdir())
    caplog.clear()


def test_a_resize_that_is_refused_tells_our_reason(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's part: the write waits for our answer to the event and fails with the errno in it."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        loop = asyncio.get_running_loop()
        device = bench.device_manager.at(0)
        assert device is not None

        def set_size(_store: Backstore, size: int) -> None:
            asked = asyncio.run_coroutine_threadsafe(bench.device_manager.set_size(device, size), loop)
            refused = asked.exception()
            assert isinstance(refused, DeviceRefusedError)
            raise OSError(refused.errno, "cannot write attrib/dev_size")

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
        await bench.device_manager.add(ENTRY)
        with pytest.raises(DeviceError, match=why):
            await ask(bench.control)

    live(life)


def test_a_layer_is_changed_and_the_log_has_it(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        assert await bench.control.control(NAME, "error", {"rules": []}) == {"layer": "error", "rules": []}
        assert "error changed: {'rules': []}" in bench.device_manager.device_events()[-1].text
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
        await bench.device_manager.adopt(ENTRY)
        other = UioEntry(0, DeviceName(0, "vol1", "ram/"))
        make_backstore(bench.paths, device="vol1")
        await bench.device_manager.add(other)
        assert (bench.device.name, bench.device.state) == ("user_0/vol1", State.SERVING)

    live(life)
    caplog.clear()


def test_a_device_whose_minor_is_used_again_was_removed(live: Callable[[Life], Bench]) -> None:
    """The kernel drops the event of a removal while events are blocked, as the guardian blocks them when it
    ends waits; the next `enable` gets the minor that has become free."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        make_backstore(bench.paths, device="vol1")
        await bench.device_manager.add(UioEntry(0, DeviceName(0, "vol1", "ram/")))
        assert (bench.device.name, bench.device.state) == ("user_0/vol1", State.SERVING)
        words = [bench.told_the_guardian() for _ in range(3)]
        assert words == ["serve 0 vol0", "drop 0 vol0", "serve 0 vol1"]

    assert "removed" in told(live(life))


def test_the_end_stops_every_device(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await bench.device_manager.stop()
        assert (bench.device.state, bench.blocked) == (State.STOPPED, True)

    live(life)


def test_a_server_that_dies_at_the_end_keeps_nobody_from_stopping(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        bench.script[:] = [DeviceError("worker process ended")]
        await bench.device_manager.stop()
        assert (bench.device.state, bench.blocked, bench.reset) == (State.STOPPED, True, "1")

    assert told(live(life))[-1] == "commands did not end within 25 s: initiators retry them"
    caplog.clear()


def test_a_server_is_asked_while_something_happens_on_its_ring(live: Callable[[Life], Bench]) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        bench.device_manager.look_after()
        assert bench.servers[0].looks == 0
        bench.put_a_command()
        bench.device_manager.look_after()
        assert bench.servers[0].looks == 1

    live(life)


def test_commands_that_wait_for_a_server_count(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """A server may hang from its first command on."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        bench.script[:] = [DOWN]
        with pytest.raises(DeviceError, match="the storage is down"):
            await bench.control.restart(NAME)
        assert bench.device.pid == 0
        bench.put_a_command()
        bench.device_manager.look_after()
        await bench.until(State.SERVING)
        bench.device_manager.look_after()
        assert bench.servers[-1].looks == 1

    live(life)
    caplog.clear()


def test_new_settings_reach_the_server_or_wait_for_a_restart(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        limits = Overrides({}, {"max_unmap": 64})
        await bench.device_manager.adjust(NAME, limits)
        assert bench.servers[0].adjusted == [limits]
        bench.script[:] = [DOWN]
        await bench.device_manager.adjust(NAME, limits)
        assert bench.servers[0].adjusted == [limits]

    *_, taken, refused = told(live(life))
    assert taken == "settings changed: applied identity and limits"
    assert refused.startswith("new settings not applied: ")
    assert refused.endswith(": they take effect at its restart")
    caplog.clear()


def test_a_ring_is_mapped_while_its_device_is_open(
    live: Callable[[Life], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    async def life(bench: Bench) -> None:
        bench.script = [DOWN]
        with pytest.raises(DeviceRefusedError):
            await bench.device_manager.add(ENTRY)
        assert not bench.mapped
        ends: list[Callable[[], Awaitable[None]]] = [
            lambda: bench.device_manager.remove(0),
            bench.device_manager.stop,
        ]
        for end in ends:
            await bench.device_manager.add(ENTRY)
            assert bench.mapped
            await end()
            assert not bench.mapped

    live(life)
    caplog.clear()


def test_servers_hear_why_a_device_is_opened(live: Callable[[Life], Bench]) -> None:
    """An administrator may make a new storage; for a device that was served its storage has to be there."""

    async def life(bench: Bench) -> None:
        await bench.device_manager.add(ENTRY)
        await bench.control.restart(NAME)  # as after the death of its worker
        await bench.device_manager.remove(0)
        await bench.device_manager.add(ENTRY)  # it was removed in this run of the machine
        await bench.device_manager.remove(0)
        await bench.device_manager.adopt(ENTRY)  # the daemon is another one
        await bench.device_manager.remove(0)
        bench.served.note(ENTRY.name)

    bench = live(life)
    assert bench.origins == [Origin.NEW, Origin.RUNNING, Origin.AGAIN, Origin.RUNNING]
