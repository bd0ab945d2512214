"""What is seen of the embedded mode's LUNs."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from tcmu_runner.embedded import Disk, Server
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.embedded.watch import ServerView
from tcmu_runner.engine.observe.view import DeviceView, State
from tcmu_runner.handler import Device, Handler
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iov import Buffers

TEST_UNIT_READY = bytes(6)
WRITE_10 = bytes.fromhex("2a00 00000000 00 0001 00")  # SBC-4 5.40: one block at LBA 0


def test_a_lun_and_what_it_has_done() -> None:
    registry = Registry()
    registry.load_entry_points()
    with Server([Disk("ram/", 1 << 20)], registry) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(server.target.name)
            initiator.command(TEST_UNIT_READY)
        seen: list[DeviceView] = []
        watch = ServerView(server, registry)
        server.on_loop(lambda: seen.extend(watch.devices()))
        assert watch.device_events() == [] and "ram" in [offer.subtype for offer in watch.handlers()]
        (view,) = seen
        assert (view.name, view.minor, view.handler, view.config) == ("lun0", 0, "ram", "ram/")
        assert (view.size, view.block_size, view.pid) == (1 << 20, 512, os.getpid())
        assert (view.state, view.last_error) == (State.SERVING, "")
        assert [(row.opcode, row.count) for row in view.statistics.opcodes] == [(0x00, 1)]


def test_a_lun_whose_ring_is_broken() -> None:
    registry = Registry()
    registry.load_entry_points()
    server = Server([Disk("ram/", 1 << 20)], registry)
    server.luns[0].broken = RuntimeError("command 7 is not ours")
    (view,) = ServerView(server, registry).devices()
    server.stop()
    assert (view.state, view.last_error) == (State.FAILED, "command 7 is not ours")


class Keeper(Handler[str]):
    """Has kept a buffer of a command that has ended, as a cache with a fault would."""

    subtype = "keeper"
    kept: ClassVar[Buffers] = []

    @classmethod
    def open(cls, device: Device, config: str) -> Keeper:
        return cls()

    def read(self, into: Buffers, offset: int) -> None:
        for buffer in into:
            buffer[:] = bytes(len(buffer))

    def write(self, data: Buffers, offset: int) -> None:
        Keeper.kept = list(data)


def test_a_handler_that_keeps_a_buffer_does_not_break_the_end(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.add(Keeper)
    with Server([Disk("keeper/", 1 << 20)], registry) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(server.target.name)
            initiator.command(WRITE_10, bytes(512))
    assert caplog.messages == [
        "lun0: handler has kept the buffers of a finished command: the ring stays in memory with them"
    ]
    caplog.clear()
