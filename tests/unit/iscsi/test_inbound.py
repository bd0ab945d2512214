"""SCSI commands, their data and their answers, as conversations. Clauses are those of RFC 7143."""

from __future__ import annotations

import struct

import pytest

from iscsi.conversation import Conversation
from tcmu_runner.iscsi import outbound, target_session
from tcmu_runner.iscsi.pdu import NO_TAG, encode
from tcmu_runner.iscsi.pending import Disposition, PendingCommand
from tcmu_runner.iscsi.requests import DataOut, ScsiCommand
from tcmu_runner.iscsi.responses import R2T, DataIn, Reject, ScsiResponse
from tcmu_runner.iscsi.scsi_response import answer, answer_aborted
from tcmu_runner.iscsi.target_connection import Event

FINAL, READ, WRITE = 0x80, 0x40, 0x20
GOOD, CHECK_CONDITION, TASK_ABORTED = 0x00, 0x02, 0x40
TEST_UNIT_READY = bytes(6)
XDWRITEREAD_10 = b"\x53" + bytes(9)  # bidirectional (SBC-3 5.43); no unit of ours has it


def read_10(blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, 0, 0, blocks, 0)


def write_10(blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, 0, 0, blocks, 0)


@pytest.fixture
def me() -> Conversation:
    """In full feature phase, without immediate data."""
    found = Conversation()
    found.login(ImmediateData="No")
    return found


def complete(event: Event | None) -> PendingCommand:
    assert isinstance(event, PendingCommand)
    return event


def data_of(command: PendingCommand) -> bytes:
    assert command.gathering is not None
    return bytes(command.gathering.data)


def asked(me: Conversation) -> R2T:
    pdu, _ = me.hear()
    assert isinstance(pdu, R2T)
    return pdu


def response(me: Conversation) -> ScsiResponse:
    pdu, _ = me.hear()
    assert isinstance(pdu, ScsiResponse)
    return pdu


# Commands


def test_a_read(me: Conversation) -> None:
    """11.7.3: the status comes with the last Data-In."""
    command = complete(me.command(4, read_10(1), FINAL | READ, 512))
    assert (command.cdb, command.expected, command.data_in_expected) == (read_10(1), 512, 512)
    assert (command.reads, command.writes, command.gathering) == (True, False, None)
    answer(command, GOOD, b"", b"d" * 512, 512)
    pdu, data = me.hear()
    assert isinstance(pdu, DataIn)
    assert (pdu.tag, pdu.flags, pdu.status, pdu.residual, data) == (4, 0x81, GOOD, 0, b"d" * 512)
    assert command.over
    assert not me.target.session.commands


def test_data_in_is_cut_by_segments_and_bursts() -> None:
    """13.12, 11.7.1; 11.7.4: DataSN counts, and status is in the last one."""
    me = Conversation()
    me.login(MaxRecvDataSegmentLength="512", MaxBurstLength="1024")
    answer(complete(me.command(4, read_10(3), FINAL | READ, 1536)), GOOD, b"", b"d" * 1536, 512)
    found = [pdu for pdu, _ in me.heard() if isinstance(pdu, DataIn)]
    assert [(each.data_sn, each.offset, each.flags) for each in found] == [
        (0, 0, 0), (1, 512, 0x80), (2, 1024, 0x81),
    ]  # fmt: skip


def test_sense_comes_without_what_its_buffer_adds(me: Conversation) -> None:
    """11.4.7: its length, and the sense data (SPC-5 4.4: as long as byte 7 says)."""
    sense = bytes.fromhex("70 00 05 00000000 0a 00000000 2000 000000 00")
    for given, sent in ((sense + bytes(78), b"\0\x12" + sense), (b"\x70", b"\0\1\x70"), (b"", b"")):
        answer(complete(me.command(4, TEST_UNIT_READY, FINAL)), CHECK_CONDITION, given)
        pdu, data = me.hear()
        assert isinstance(pdu, ScsiResponse)
        assert (pdu.status, pdu.response, data) == (CHECK_CONDITION, 0, sent)


@pytest.mark.parametrize(
    ("cdb", "flags", "expected", "given", "block_size", "told"),
    [
        (read_10(1), READ, 1024, 512, 512, (0x02, 512)),  # underflow
        (read_10(2), READ, 512, 512, 512, (0x04, 512)),  # overflow
        (read_10(2), READ, 512, 512, 0, (0x00, 0)),  # of no unit, so of no known length
        (read_10(1), 0, 0, 0, 512, (0x04, 512)),  # neither direction: all of it
        (TEST_UNIT_READY, 0, 0, 0, 512, (0x00, 0)),
    ],
)
def test_residuals(
    me: Conversation, cdb: bytes, flags: int, expected: int, given: int, block_size: int,
    told: tuple[int, int],
) -> None:  # fmt: skip
    """11.4.5.1"""
    answer(complete(me.command(4, cdb, FINAL | flags, expected)), GOOD, b"", bytes(given), block_size)
    pdu, _ = me.hear()
    assert isinstance(pdu, DataIn | ScsiResponse)
    assert (pdu.flags & 0x06, pdu.residual) == told


@pytest.mark.parametrize(("given", "flags", "count"), [(200, 0x08, 56), (256, 0, 0), (300, 0x10, 44)])
def test_a_bidirectional_command(me: Conversation, given: int, flags: int, count: int) -> None:
    """11.2.2.2: the length of its Data-In; 11.4.5.2: a residual count of its own; the status by itself."""
    ahs = bytes.fromhex("0005 02 00 00000100")
    assert me.command(4, XDWRITEREAD_10, FINAL | READ | WRITE, 512, ahs=ahs) is None
    command = complete(me.data_out(4, asked(me).transfer_tag, 0, bytes(512)))
    assert (command.expected, command.data_in_expected) == (512, 256)
    answer(command, GOOD, b"", bytes(given))
    (first, _), (pdu, _) = me.heard()
    assert isinstance(first, DataIn)
    assert isinstance(pdu, ScsiResponse)
    assert (pdu.flags & 0x18, pdu.bidi_residual) == (flags, count)
    assert pdu.exp_data_sn == 2  # an R2T and a Data-In: 11.4.8


def test_a_cdb_that_is_cut_off(me: Conversation) -> None:
    """11.17.1: 09h, and its place in the window is free again."""
    before = me.target.session.max_cmd_sn
    assert me.command(4, bytes.fromhex("7f00000000000018"), FINAL) is None
    pdu, header = me.hear()
    assert isinstance(pdu, Reject)
    assert (pdu.reason, header[:1], pdu.max_cmd_sn) == (0x09, b"\1", before + 1)


def test_a_tag_in_use(me: Conversation) -> None:
    """11.17.1: 07h."""
    complete(me.command(4, TEST_UNIT_READY, FINAL))
    assert me.command(4, TEST_UNIT_READY, FINAL) is None
    pdu, _ = me.hear()
    assert isinstance(pdu, Reject)
    assert pdu.reason == 0x07


# Data-Out


def test_immediate_data() -> None:
    me = Conversation()
    me.login()
    command = complete(me.command(4, write_10(1), FINAL | WRITE, 512, b"w" * 512))
    assert data_of(command) == b"w" * 512
    answer(command, GOOD, block_size=512)
    pdu = response(me)
    assert (pdu.status, pdu.flags, pdu.residual) == (GOOD, 0x80, 0)


def test_data_that_is_asked_for() -> None:
    """11.8: an R2T for each burst; 11.4.8: ExpDataSN counts them."""
    me = Conversation()
    me.login(ImmediateData="No", MaxBurstLength="512")
    assert me.command(4, write_10(2), FINAL | WRITE, 1024) is None
    first = asked(me)
    assert (first.tag, first.r2t_sn, first.offset, first.length) == (4, 0, 0, 512)
    assert me.data_out(4, first.transfer_tag, 0, b"a" * 256, flags=0) is None
    assert me.data_out(4, first.transfer_tag, 256, b"b" * 256, 1) is None
    second = asked(me)
    assert (second.r2t_sn, second.offset, second.length) == (1, 512, 512)
    command = complete(me.data_out(4, second.transfer_tag, 512, b"c" * 512))
    assert data_of(command) == b"a" * 256 + b"b" * 256 + b"c" * 512
    answer(command, GOOD, block_size=512)
    assert response(me).exp_data_sn == 2


def test_unsolicited_data() -> None:
    """13.10: InitialR2T=No; nothing is asked for while the first burst is on its way."""
    me = Conversation()
    me.login(ImmediateData="No", InitialR2T="No")
    assert me.command(4, write_10(2), WRITE, 1024) is None
    assert me.data_out(4, NO_TAG, 0, b"a" * 512, flags=0) is None
    assert me.heard() == []
    command = complete(me.data_out(4, NO_TAG, 512, b"b" * 512, 1))
    assert data_of(command) == b"a" * 512 + b"b" * 512


def sense_of(command: PendingCommand) -> tuple[int, int, int]:
    assert command.gathering is not None
    assert command.gathering.failure is not None
    encoded = command.gathering.failure.encode()
    return encoded[2], encoded[12], encoded[13]


def test_data_for_a_command_that_takes_none(me: Conversation) -> None:
    """11.4.7.2: unexpected unsolicited data."""
    command = complete(me.command(4, read_10(1), FINAL | READ, 512, b"x" * 4))
    assert sense_of(command) == (0x0B, 0x0C, 0x0C)


def test_data_whose_digest_is_wrong() -> None:
    """7.8: the PDU is rejected; the command ends in a protocol service CRC error (11.4.7.2)."""
    me = Conversation()
    me.login(DataDigest="CRC32C", InitialR2T="No")
    immediate = ScsiCommand(
        0x01, FINAL | WRITE, 4, bytes(8), 4, 4, next(me.cmd_sn), 0, write_10(1) + bytes(6)
    )
    command = complete(me.feed(encode(immediate) + b"data" + b"nope"))
    assert sense_of(command) == (0x0B, 0x47, 0x05)
    assert me.command(5, write_10(1), WRITE, 512) is None
    later = DataOut(0x05, FINAL, 4, bytes(8), 5, NO_TAG, 0, 0, 0)
    assert sense_of(complete(me.feed(encode(later) + b"data" + b"nope"))) == (0x0B, 0x47, 0x05)
    reasons = [pdu.reason for pdu, _ in me.heard() if isinstance(pdu, Reject)]
    assert reasons == [0x02, 0x02]


def test_data_that_belongs_to_no_command(me: Conversation) -> None:
    """7.4: it may be late, of a command that was aborted: it is dropped in silence."""
    complete(me.command(4, read_10(1), FINAL | READ, 512))
    assert me.data_out(9, NO_TAG, 0, b"x" * 512) is None
    assert me.data_out(4, NO_TAG, 0, b"x" * 512) is None
    assert me.heard() == []


def test_data_on_another_connection(me: Conversation) -> None:
    """4.2.5.1: a command's data is on its own connection."""
    other = Conversation()
    other.login(me.target.session, cid=1)
    assert me.command(4, write_10(1), FINAL | WRITE, 512) is None
    transfer_tag = asked(me).transfer_tag
    assert other.data_out(4, transfer_tag, 0, b"x" * 512) is None
    assert data_of(complete(me.data_out(4, transfer_tag, 0, b"y" * 512))) == b"y" * 512
    assert me.data_out(4, transfer_tag, 0, b"z" * 512) is None  # it has all of its data


def test_more_data_than_there_is_memory_for(me: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command may always have its own."""
    monkeypatch.setattr(target_session, "GATHERED_MAX", 1024)
    assert me.command(4, write_10(4), FINAL | WRITE, 2048) is None
    second = complete(me.command(5, write_10(4), FINAL | WRITE, 2048))
    assert sense_of(second) == (0, 0, 0)
    answer(second, 0x28)  # TASK SET FULL
    assert me.target.session.commands.keys() == {4}


# Room for Data-In


def test_commands_are_kept_while_nothing_is_read(me: Conversation) -> None:
    """Then they come in their order; those that were aborted meanwhile do not."""
    me.target.paused = True
    for tag in (1, 2, 3):
        assert me.command(tag, read_10(1), FINAL | READ, 512) is None
    me.target.session.commands[1].finish()
    assert me.target.next_kept() is None
    me.target.paused = False
    assert [complete(me.target.next_kept()).pdu.tag for _ in range(2)] == [2, 3]
    assert me.target.next_kept() is None


def test_commands_for_more_data_than_may_wait(me: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room again once the answers to those before are sent. One may always have its own."""
    monkeypatch.setattr(outbound, "PROMISED_MAX", 1024)
    first = complete(me.command(1, read_10(4), FINAL | READ, 2048))
    assert me.command(2, read_10(4), FINAL | READ, 2048) is None
    assert me.command(3, TEST_UNIT_READY, FINAL) is None  # nor does a small one overtake it
    answer(first, GOOD, b"", bytes(2048), 512)
    assert me.target.next_kept() is None
    me.heard()
    second = complete(me.target.next_kept())
    assert second.pdu.tag == 2
    assert me.target.next_kept() is None
    answer(second, GOOD, b"", bytes(2048), 512)
    me.heard()
    assert complete(me.target.next_kept()).pdu.tag == 3


def test_data_of_a_command_that_is_kept(me: Conversation) -> None:
    """Later bytes do not overwrite it in the buffer that they are received to."""
    other = Conversation()
    other.login()
    other.target.paused = True
    assert other.command(1, write_10(1), FINAL | WRITE, 512, b"a" * 512) is None
    for tag in range(2, 200):
        other.command(tag, write_10(1), FINAL | WRITE, 512, b"b" * 512)
    other.target.paused = False
    assert data_of(complete(other.target.next_kept())) == b"a" * 512


def test_commands_that_fail_are_not_kept(me: Conversation) -> None:
    me.target.paused = True
    complete(me.command(4, read_10(1), FINAL | READ, 512, b"x" * 4))


def test_a_closed_connection_gives_out_nothing_that_was_kept(me: Conversation) -> None:
    me.target.paused = True
    assert me.command(1, read_10(1), FINAL | READ, 512) is None
    me.target.close()
    me.target.paused = False
    assert me.target.next_kept() is None


# Commands that were aborted


@pytest.mark.parametrize("disposition", [Disposition.NOTHING, Disposition.TASK_ABORTED])
def test_a_command_that_was_aborted(me: Conversation, disposition: Disposition) -> None:
    """SAM-5 5.6: its initiator hears of it where another one did that. Its room is free either way."""
    command = complete(me.command(4, read_10(1), FINAL | READ, 512))
    me.unsent.clear()
    command.disposition = disposition
    command.finish()
    answer_aborted(command, 512)
    assert me.target in me.unsent
    found = [pdu.status for pdu, _ in me.heard() if isinstance(pdu, ScsiResponse)]
    assert found == ([TASK_ABORTED] if disposition is Disposition.TASK_ABORTED else [])
