"""What is seen of the embedded mode's LUNs."""

from __future__ import annotations

import os

from tcmu_runner.embedded import Disk, Server
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.embedded.watch import Watch
from tcmu_runner.engine.view import DeviceView, State
from tcmu_runner.handler.registry import Registry

TEST_UNIT_READY = bytes(6)


def test_a_lun_and_what_it_has_done() -> None:
    registry = Registry()
    registry.load_entry_points()
    with Server([Disk("ram/", 1 << 20)], registry) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(server.target.name)
            initiator.command(TEST_UNIT_READY)
        seen: list[DeviceView] = []
        watch = Watch(server, registry)
        server.on_loop(lambda: seen.extend(watch.devices()))
        assert watch.happenings() == [] and "ram" in [offer.subtype for offer in watch.handlers()]
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
    (view,) = Watch(server, registry).devices()
    server.stop()
    assert (view.state, view.last_error) == (State.FAILED, "command 7 is not ours")
