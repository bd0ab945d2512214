"""Task management functions and their responses (RFC 7143, 11.5.1, 11.6.1)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tcmu_runner import AsyncHandler, Buffers, Device
from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iscsi.pdu import NO_TAG
from tcmu_runner.iscsi.requests import NopOut, ScsiCommand, TaskManagementRequest
from tcmu_runner.iscsi.responses import ScsiResponse, TaskManagementResponse

from .conftest import Connect

COMPLETE, NO_SUCH_TASK, NO_SUCH_LUN, NO_REASSIGNMENT, NOT_SUPPORTED = 0, 1, 2, 4, 5
ABORT_TASK, ABORT_TASK_SET, CLEAR_ACA, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET, REASSIGN = range(
    1, 9
)
WRITE_ONE_BLOCK = bytes.fromhex("2a000000000000000100") + bytes(6)
TEST_UNIT_READY = bytes(6)


def manage(
    initiator: Initiator, function: int, *, referenced: int = 0xFFFFFFFF, ref_cmd_sn: int = 0, lun: int = 0
) -> int:
    """The response to a function sent as immediate request."""
    number = initiator.cmd_sn
    address = bytes((0, lun, 0, 0, 0, 0, 0, 0))
    initiator.send(
        TaskManagementRequest(
            0x42, 0x80 | function, 0, address, initiator.next_tag(), referenced, number, 0, ref_cmd_sn, 0
        )
    )
    pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, TaskManagementResponse)
    return pdu.response


def waiting_write(initiator: Initiator, tag: int) -> int:
    """A WRITE whose data never comes; its CmdSN."""
    number = initiator.next_cmd_sn()
    initiator.send(ScsiCommand(0x01, 0xA1, 0, bytes(8), tag, 512, number, 0, WRITE_ONE_BLOCK))
    assert initiator.receive_frame()[0].opcode == 0x31  # R2T
    return number


@pytest.mark.parametrize("function", [ABORT_TASK_SET, CLEAR_TASK_SET])
def test_abort_task_set_ends_tasks_without_answer(connect: Connect, function: int) -> None:
    initiator = connect(ImmediateData="No")
    waiting_write(initiator, 900)
    assert manage(initiator, function) == COMPLETE
    assert initiator.command(TEST_UNIT_READY).status == 0  # and nothing came for task 900
    waiting_write(initiator, 900)  # whose tag is free again


def test_abort_task(connect: Connect) -> None:
    initiator = connect(ImmediateData="No")
    number = waiting_write(initiator, 900)
    assert manage(initiator, ABORT_TASK, referenced=900, ref_cmd_sn=number) == COMPLETE
    assert manage(initiator, ABORT_TASK, referenced=900, ref_cmd_sn=number) == NO_SUCH_TASK
    assert initiator.command(TEST_UNIT_READY).status == 0


def test_abort_of_a_task_that_never_came(connect: Connect) -> None:
    """11.6.1: its CmdSN counts as received, and the commands after it go on."""
    initiator = connect()
    lost, later = initiator.next_cmd_sn(), initiator.next_cmd_sn()
    initiator.send(ScsiCommand(0x01, 0x81, 0, bytes(8), 902, 0, later, 0, bytes(16)))
    initiator.send(TaskManagementRequest(0x42, 0x81, 0, bytes(8), 903, 901, initiator.cmd_sn, 0, lost, 0))
    done, managed = sorted((initiator.receive_frame()[0] for _ in range(2)), key=lambda pdu: pdu.tag)
    assert isinstance(done, ScsiResponse) and isinstance(managed, TaskManagementResponse)
    assert (done.tag, done.response, done.status) == (902, 0, 0)
    assert (managed.tag, managed.response) == (903, COMPLETE)


@pytest.mark.parametrize("function", [LUN_RESET, WARM_RESET])
def test_resets(connect: Connect, function: int) -> None:
    """SAM-5 6.3.3: tasks end, another's in TASK ABORTED (40h, TAS is 1), and every nexus gets 29h/03h."""
    one, other = connect(isid=1, ImmediateData="No"), connect(isid=2, ImmediateData="No")
    waiting_write(one, 900)
    waiting_write(other, 900)
    assert manage(one, function) == COMPLETE
    assert other.result(900).status == 0x40
    for initiator in (one, other):
        attention = initiator.command(TEST_UNIT_READY)
        assert (attention.status, attention.sense[2], attention.sense[12:14]) == (0x02, 0x06, b"\x29\x03")
        assert initiator.command(TEST_UNIT_READY).status == 0


def test_cold_reset_ends_all_sessions(connect: Connect) -> None:
    one, other = connect(isid=1), connect(isid=2)
    assert manage(one, COLD_RESET) == COMPLETE
    for initiator in (one, other):
        with pytest.raises(EOFError):
            initiator.receive_frame()
    assert connect(isid=1).command(TEST_UNIT_READY).status == 0x00


@pytest.mark.parametrize(
    ("function", "lun", "response"),
    [
        (ABORT_TASK_SET, 9, NO_SUCH_LUN),
        (LUN_RESET, 9, NO_SUCH_LUN),
        (CLEAR_ACA, 0, NOT_SUPPORTED),
        (REASSIGN, 0, NO_REASSIGNMENT),
        (100, 0, NOT_SUPPORTED),
    ],
)
def test_refusals(connect: Connect, function: int, lun: int, response: int) -> None:
    assert manage(connect(), function, lun=lun) == response


class Gate(AsyncHandler[str]):
    """Its writes wait until `go` is set."""

    subtype = "gate"
    begun, go = threading.Event(), threading.Event()

    @classmethod
    async def open(cls, device: Device, config: str) -> Gate:
        return cls()

    async def read(self, into: Buffers, offset: int) -> None:
        """There is nothing on this disk."""

    async def write(self, data: Buffers, offset: int) -> None:
        self.begun.set()
        assert await asyncio.to_thread(self.go.wait, 60)


@pytest.fixture
def gate() -> Iterator[Server]:
    registry = Registry()
    registry.add(Gate)
    Gate.begun.clear()
    Gate.go.clear()
    with serve(Disk("gate/", 1 << 20), registry=registry) as server:
        yield server
        Gate.go.set()


ABORTS = [(ABORT_TASK_SET, True), (CLEAR_TASK_SET, False), (LUN_RESET, False)]


@pytest.mark.parametrize(("function", "own"), ABORTS)
def test_a_function_waits_for_commands_that_the_handler_has(gate: Server, function: int, own: bool) -> None:
    """11.6: the response comes after the last of them has ended; SAM-5 5.6: which initiator hears of it."""
    at = gate.portals[0]
    with Initiator(at.host, at.port) as one, Initiator(at.host, at.port, isid=b"\x80\0\0\0\0\2") as two:
        for each in (one, two):
            each.login(gate.target.name)
        write = ScsiCommand(0x01, 0xA1, 0, bytes(8), 900, 512, one.next_cmd_sn(), 0, WRITE_ONE_BLOCK)
        one.send(write, bytes(512))
        assert Gate.begun.wait(60)
        other = one if own else two
        other.send(
            TaskManagementRequest(0x42, 0x80 | function, 0, bytes(8), 5, NO_TAG, other.cmd_sn, 0, 0, 0)
        )
        other.send(NopOut(0x40, 0x80, 0, bytes(8), 6, NO_TAG, other.cmd_sn, 0))
        assert other.receive_frame()[0].tag == 6  # the function was taken up before, and is not answered
        Gate.go.set()
        response, _ = other.receive_frame()
        assert isinstance(response, TaskManagementResponse)
        assert (response.tag, response.response) == (5, COMPLETE)
        if not own:
            assert one.result(900).status == 0x40  # TASK ABORTED
        assert one.command(bytes.fromhex("120000002400"), data_in_length=36).status == 0
