"""A connection in full feature phase, over a real socket. CDBs are those of SBC-4 and SPC-5."""

from __future__ import annotations

import struct

import pytest

from tcmu_runner.embedded import Server
from tcmu_runner.embedded.initiator import Initiator, LoginRefusedError
from tcmu_runner.iscsi import target_session
from tcmu_runner.iscsi.pdu import NO_TAG, encode
from tcmu_runner.iscsi.requests import DataOut, Logout, NopOut, ScsiCommand, Snack
from tcmu_runner.iscsi.responses import R2T, LogoutResponse, NopIn, Reject, ScsiResponse

from .conftest import Connect

TEST_UNIT_READY = bytes(6)
INQUIRY = bytes.fromhex("120000002400")
GOOD, CHECK_CONDITION, TASK_SET_FULL = 0x00, 0x02, 0x28
OVERFLOW, UNDERFLOW = 0x04, 0x02  # RFC 7143, 11.4.1


def read_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write_10(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


def pattern(length: int) -> bytes:
    return bytes(range(251)) * (length // 251 + 1)


@pytest.mark.parametrize("header", ["None", "CRC32C"])
@pytest.mark.parametrize("data", ["None", "CRC32C"])
def test_digests(connect: Connect, header: str, data: str) -> None:
    initiator = connect(HeaderDigest=header, DataDigest=data)
    assert (initiator.agreed["HeaderDigest"], initiator.agreed["DataDigest"]) == (header, data)
    content = pattern(4096)[:4096]
    assert initiator.command(write_10(0, 8), content).status == GOOD
    assert initiator.command(read_10(0, 8), data_in_length=4096).data == content
    inquiry = initiator.command(INQUIRY, data_in_length=35)  # needs padding
    assert len(inquiry.data) == 35


@pytest.mark.parametrize("immediate", ["Yes", "No"])
@pytest.mark.parametrize("length", [512, 4096, 131072, 262144])
def test_writes_immediate_and_by_r2t(connect: Connect, immediate: str, length: int) -> None:
    """Small bursts, so that the larger writes need several R2Ts (13.13, 13.14)."""
    initiator = connect(ImmediateData=immediate, FirstBurstLength="4096", MaxBurstLength="32768")
    content = pattern(length)[:length]
    assert initiator.command(write_10(16, length // 512), content).status == GOOD
    assert initiator.command(read_10(16, length // 512), data_in_length=length).data == content


def test_unsolicited_data_out(connect: Connect) -> None:
    """13.10: with InitialR2T=No, Data-Out follows the command unasked, up to FirstBurstLength."""
    initiator = connect(InitialR2T="No", ImmediateData="No", FirstBurstLength="1024")
    assert initiator.agreed["InitialR2T"] == "No"
    tag = initiator.next_tag()
    initiator.send(
        ScsiCommand(0x01, 0x21, 0, bytes(8), tag, 1024, initiator.next_cmd_sn(), 0, write_10(0, 2) + bytes(6))
    )
    initiator.send(DataOut(0x05, 0x00, 0, bytes(8), tag, 0xFFFFFFFF, 0, 0, 0), b"a" * 512)
    initiator.send(DataOut(0x05, 0x80, 0, bytes(8), tag, 0xFFFFFFFF, 0, 1, 512), b"b" * 512)
    assert initiator.result(tag).status == GOOD
    assert initiator.command(read_10(0, 2), data_in_length=1024).data == b"a" * 512 + b"b" * 512


@pytest.mark.parametrize(
    ("number", "offset", "length", "sense"),
    [
        (1, 0, 1024, "0b4705"),  # DataSN: one is missing
        (0, 512, 512, "0b0c0d"),  # a hole
        (0, 0, 1536, "0b0c0d"),  # more than was asked for
        (0, 0, 512, "0b0c0d"),  # less
    ],
)
def test_wrong_data_out_fails_the_command(
    connect: Connect, number: int, offset: int, length: int, sense: str
) -> None:
    """11.4.7.2: which sense a target answers to data it cannot use."""
    initiator = connect(ImmediateData="No")
    tag = initiator.next_tag()
    initiator.send(
        ScsiCommand(0x01, 0xA1, 0, bytes(8), tag, 1024, initiator.next_cmd_sn(), 0, write_10(0, 2) + bytes(6))
    )
    asked, _ = initiator.receive_frame()
    assert isinstance(asked, R2T)
    initiator.send(
        DataOut(0x05, 0x80, 0, bytes(8), tag, asked.transfer_tag, 0, number, offset), b"x" * length
    )
    result = initiator.result(tag)
    found = result.sense
    assert (result.status, bytes((found[2], found[12], found[13])).hex()) == (CHECK_CONDITION, sense)
    assert initiator.command(TEST_UNIT_READY).status == GOOD


@pytest.mark.parametrize("unsolicited", [True, False])
def test_data_of_more_commands_than_there_is_memory_for(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch, *, unsolicited: bool
) -> None:
    """One command may always have its own. The others are to come again when it is over."""
    monkeypatch.setattr(target_session, "GATHERED_MAX", 1024)
    initiator = connect(InitialR2T="No", ImmediateData="No", FirstBurstLength="512")

    def begin(tag: int, *, final: bool) -> None:
        flags, number = 0xA1 if final else 0x21, initiator.next_cmd_sn()
        cdb = write_10(0, 4) + bytes(6)
        initiator.send(ScsiCommand(0x01, flags, 0, bytes(8), tag, 2048, number, 0, cdb))

    def send(tag: int, transfer_tag: int, offset: int, length: int) -> None:
        data_out = DataOut(0x05, 0x80, 0, bytes(8), tag, transfer_tag, 0, 0, offset)
        initiator.send(data_out, b"x" * length)

    begin(91, final=True)
    asked, _ = initiator.receive_frame()
    assert isinstance(asked, R2T)
    begin(92, final=not unsolicited)
    if unsolicited:  # the answer does not overtake it
        send(92, 0xFFFFFFFF, 0, 512)
    assert initiator.result(92).status == TASK_SET_FULL
    send(91, asked.transfer_tag, 0, 2048)
    assert initiator.result(91).status == GOOD
    assert initiator.command(write_10(0, 4), b"y" * 2048).status == GOOD
    (session,) = server.target.sessions.values()
    assert session.gather(1 << 40)  # nothing is left


@pytest.mark.parametrize("segment", [512, 4096, 262144])
def test_data_in_is_cut_as_the_initiator_wants(connect: Connect, segment: int) -> None:
    """13.12, and 11.7.1: a sequence ends at MaxBurstLength."""
    initiator = connect(MaxRecvDataSegmentLength=str(segment), MaxBurstLength="5120")
    content = pattern(16384)[:16384]
    initiator.command(write_10(0, 32), content)
    result = initiator.command(read_10(0, 32), data_in_length=16384)
    assert result.data == content
    # In each burst of 5120 as many whole segments as fit, and what is left of it.
    assert result.pdus == {512: 32, 4096: 7, 262144: 4}[segment]


@pytest.mark.parametrize(
    ("cdb", "out", "into", "flags", "residual", "returned"),
    [
        (read_10(0, 1), b"", 10000, UNDERFLOW, 9488, 512),
        (read_10(0, 1), b"", 200, OVERFLOW, 312, 200),
        (read_10(0, 2), b"", 512, OVERFLOW, 512, 512),
        (read_10(0, 1), b"", 512, 0, 0, 512),
        (INQUIRY, b"", 255, UNDERFLOW, 219, 36),
        (write_10(0, 1), bytes(1024), 0, UNDERFLOW, 512, 0),
        (write_10(0, 2), bytes(512), 0, OVERFLOW, 512, 0),
        (bytes.fromhex("2f02 00000000 00 0001 00"), bytes(1024), 0, UNDERFLOW, 512, 0),  # VERIFY, BYTCHK 01b
        (bytes.fromhex("2f00 00000000 00 0001 00"), bytes(512), 0, UNDERFLOW, 512, 0),  # 00b takes no data
        (bytes.fromhex("151000000000"), bytes(4), 0, UNDERFLOW, 4, 0),  # MODE SELECT(6) of an empty list
        (bytes.fromhex("42000000000000000800"), bytes(12), 0, UNDERFLOW, 4, 0),  # UNMAP
        (bytes.fromhex("3b0a0000000000000400"), bytes(8), 0, UNDERFLOW, 4, 0),  # WRITE BUFFER, echo
        (TEST_UNIT_READY, bytes(512), 0, UNDERFLOW, 512, 0),
    ],
)
def test_residuals(
    connect: Connect, cdb: bytes, out: bytes, into: int, flags: int, residual: int, returned: int
) -> None:
    """11.4.5.1: expected and presented lengths differ."""
    result = connect().command(cdb, out, into)
    assert (result.status, result.flags & 0x06, result.residual) == (GOOD, flags, residual)
    assert len(result.data) == returned


@pytest.mark.parametrize("cdb", ["2a000000000000000200", "8e000000000000000000000000020000", "15100000ff00"])
def test_a_write_with_the_bit_of_a_read(connect: Connect, cdb: str) -> None:
    """Its buffer is for data-in, and has what an earlier command left there: that was written to the disk."""
    initiator = connect()
    initiator.command(write_10(0, 2), bytes(1024))
    initiator.command(write_10(8, 2), b"\x5a" * 1024)
    result = initiator.command(bytes.fromhex(cdb), data_in_length=1024)
    assert (result.status, result.sense[2], result.sense[12:14].hex()) == (CHECK_CONDITION, 5, "0e03")
    assert initiator.command(read_10(0, 2), data_in_length=1024).data == bytes(1024)


def test_a_command_without_its_data(connect: Connect) -> None:
    """A WRITE that expects to send nothing: all of it is overflow."""
    result = connect().command(write_10(0, 1))
    assert (result.status, result.flags & 0x06, result.residual) == (GOOD, OVERFLOW, 512)


@pytest.mark.parametrize(
    ("cdb", "flags"),
    [
        ("89000000000000000000000000010000", UNDERFLOW),  # COMPARE AND WRITE of one block, twice: SBC-4 5.3
        ("89000000000000000000000000030000", OVERFLOW),  # ... of three
        ("8b000000000000000000000000060000", OVERFLOW),  # ORWRITE(16) of six
        ("9c000000000000000000000000060000", OVERFLOW),  # WRITE ATOMIC(16) of six
    ],
)
def test_all_or_nothing_with_data_of_another_length(connect: Connect, cdb: str, flags: int) -> None:
    """Four blocks are sent. Part of such a command is no such command: nothing is stored, and the residual
    is told all the same (11.4.5.1)."""
    initiator = connect()
    initiator.command(write_10(0, 6), bytes(6 * 512))
    result = initiator.command(bytes.fromhex(cdb), b"\xa6" * 4 * 512)
    assert (result.status, result.sense[2], result.sense[12:14].hex()) == (CHECK_CONDITION, 5, "2400")
    assert (result.flags & 0x06, result.residual) == (flags, 1024)
    assert initiator.command(read_10(0, 6), data_in_length=6 * 512).data == bytes(6 * 512)


def test_several_units(connect: Connect) -> None:
    initiator = connect()
    initiator.command(write_10(0, 1), b"0" * 512, lun=0)
    initiator.command(write_10(0, 1), b"1" * 4096, lun=1)
    assert initiator.command(read_10(0, 1), data_in_length=512, lun=0).data == b"0" * 512
    assert initiator.command(read_10(0, 1), data_in_length=4096, lun=1).data == b"1" * 4096
    listed = initiator.command(bytes.fromhex("a00000000000000000400000"), data_in_length=64)
    assert listed.data == bytes.fromhex("0000001000000000 0000000000000000 0001000000000000")


def test_a_unit_that_does_not_exist(connect: Connect) -> None:
    """SPC-5 6.6.2 (peripheral qualifier 011b), 6.33 (any LUN answers REPORT LUNS); 25h/00h for the rest."""
    initiator = connect()
    assert initiator.command(INQUIRY, data_in_length=36, lun=7).data[0] == 0x7F
    assert (
        initiator.command(bytes.fromhex("a00000000000000000100000"), data_in_length=16, lun=7).data[3] == 16
    )
    refused = initiator.command(read_10(0, 1), data_in_length=512, lun=7)
    assert (refused.status, refused.sense[2], refused.sense[12]) == (CHECK_CONDITION, 0x05, 0x25)
    sense = initiator.command(bytes.fromhex("030000001200"), data_in_length=18, lun=7)
    assert (sense.status, sense.data[12]) == (GOOD, 0x25)


def naa(initiator: Initiator, lun: int) -> bytes:
    """The NAA designator of VPD page 83h (SPC-5 7.7.6): code set 1, type 3, 16 bytes."""
    page = initiator.command(bytes.fromhex("12018300ff00"), data_in_length=255, lun=lun).data
    at = page.index(bytes.fromhex("01030010"))
    return page[at + 4 : at + 20]


def test_extended_copy_between_units(connect: Connect) -> None:
    """SPC-5 6.6, LID1: 16 blocks of 512 bytes from LUN 0 are 2 blocks of 4096 on LUN 1."""
    initiator = connect()
    content = pattern(8192)[:8192]
    assert initiator.command(write_10(8, 16), content, lun=0).status == GOOD
    devices = b"".join(  # identification descriptor CSCD descriptors, 6.6.5.2
        bytes.fromhex("e400000001030010") + naa(initiator, lun) + bytes(5) + size.to_bytes(3, "big")
        for lun, size in ((0, 512), (1, 4096))
    )
    # 6.6.6.3: block to block, 16 blocks of the source (DC is 0), from LBA 8 to LBA 3
    segment = bytes.fromhex("0200001800000001 00000010 0000000000000008 0000000000000003")
    header = bytes.fromhex("00180040 00000000") + len(segment).to_bytes(4, "big") + bytes(4)  # 6.6.3
    parameters = header + devices + segment
    cdb = bytes.fromhex("8300") + bytes(8) + len(parameters).to_bytes(4, "big") + bytes(2)
    copied = initiator.command(cdb, parameters)
    assert copied.status == GOOD, copied.sense.hex()
    assert initiator.command(read_10(3, 2), data_in_length=8192, lun=1).data == content


def test_a_long_cdb(connect: Connect) -> None:
    """11.2.2.3: an Extended CDB segment; VARIABLE LENGTH CDB with an unknown service action (SPC-5 4.2.3)."""
    cdb = bytes.fromhex("7f00000000000018") + b"\xff\xff" + bytes(22)
    result = connect().command(cdb, data_in_length=512)
    assert (result.status, result.sense[2]) == (CHECK_CONDITION, 0x05)


def test_commands_out_of_order_wait_for_their_turn(connect: Connect) -> None:
    """4.2.2.1: the command with the later CmdSN is sent first, over the one connection."""
    initiator = connect()
    first, second = initiator.next_cmd_sn(), initiator.next_cmd_sn()
    for tag, number in ((102, second), (101, first)):
        initiator.send(ScsiCommand(0x01, 0x81, 0, bytes(8), tag, 0, number, 0, bytes(16)))
    assert [initiator.receive_frame()[0].tag for _ in range(2)] == [101, 102]


def test_a_command_outside_the_window_or_twice_is_ignored(connect: Connect) -> None:
    initiator = connect()
    far = initiator.cmd_sn + 100000
    initiator.command(TEST_UNIT_READY)
    for tag, number in ((201, far), (202, initiator.cmd_sn - 1)):
        initiator.send(ScsiCommand(0x01, 0x81, 0, bytes(8), tag, 0, number & 0xFFFFFFFF, 0, bytes(16)))
    assert initiator.command(TEST_UNIT_READY).status == GOOD  # and no other answer came


def test_the_window_moves_with_the_answers(connect: Connect) -> None:
    initiator = connect()
    for _ in range(300):  # more than the window holds
        assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_immediate_commands_use_no_number(connect: Connect) -> None:
    initiator = connect()
    initiator.send(ScsiCommand(0x41, 0x81, 0, bytes(8), 9, 0, initiator.cmd_sn, 0, bytes(16)))
    assert initiator.result(9).status == GOOD
    assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_a_tag_in_use(connect: Connect) -> None:
    """11.17.1: Task in progress."""
    initiator = connect(ImmediateData="No")
    for _ in range(2):
        command = ScsiCommand(
            0x01, 0xA1, 0, bytes(8), 5, 512, initiator.next_cmd_sn(), 0, write_10(0, 1) + bytes(6)
        )
        initiator.send(command)
    assert initiator.receive_frame()[0].opcode == 0x31
    rejected, header = initiator.receive_frame()
    assert isinstance(rejected, Reject)
    assert (rejected.reason, header[16:20]) == (0x07, b"\0\0\0\5")


def test_ping(connect: Connect) -> None:
    initiator = connect()
    initiator.send(NopOut(0x40, 0x80, 0, bytes(8), 77, 0xFFFFFFFF, initiator.cmd_sn, 0), b"hello")
    pdu, data = initiator.receive_frame()
    assert isinstance(pdu, NopIn)
    assert (pdu.tag, data) == (77, b"hello")


def test_a_ping_whose_digest_is_wrong(connect: Connect) -> None:
    """7.8: any PDU whose data digest is wrong is rejected for that reason (02h), and dropped."""
    initiator = connect(DataDigest="CRC32C")
    ping = NopOut(0x00, 0x80, 4, bytes(8), 5, NO_TAG, initiator.next_cmd_sn(), 0)
    initiator.send_bytes(encode(ping) + b"ping" + b"nope")
    pdu, header = initiator.receive_frame()
    assert isinstance(pdu, Reject)
    assert (pdu.reason, header) == (0x02, encode(ping))
    assert initiator.command(TEST_UNIT_READY).status == GOOD  # its number is used up: nothing waits for it


def test_a_read_that_promises_data(connect: Connect) -> None:
    """11.3.1: F is 0 only where unsolicited Data-Out follows, which a read has none of."""
    initiator = connect()
    initiator.send(ScsiCommand(0x01, 0x40, 0, bytes(8), 9, 512, initiator.next_cmd_sn(), 0, read_10(0, 1)))
    assert initiator.result(9).sense[12:14] == b"\x0c\x0c"  # 11.4.7.2: unexpected unsolicited data


def test_snack_is_refused(connect: Connect) -> None:
    """11.16: there is none at error recovery level 0."""
    initiator = connect()
    initiator.send(Snack(0x10, 0x80, 0, bytes(8), 1, 0xFFFFFFFF, 0, 0, 0))
    pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, Reject)
    assert pdu.reason == 0x03
    assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_logout(connect: Connect) -> None:
    initiator = connect()
    initiator.send(Logout(0x06, 0x80, 0, 4, 0, initiator.next_cmd_sn(), 0))
    pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, LogoutResponse)
    assert (pdu.tag, pdu.response) == (4, 0)
    with pytest.raises(EOFError):
        initiator.receive_frame()


@pytest.mark.parametrize(("reason", "cid", "response"), [(1, 9, 1), (2, 0, 2)])
def test_logout_of_what_is_not_there_or_not_possible(
    connect: Connect, reason: int, cid: int, response: int
) -> None:
    """11.15.1: CID not found; connection recovery is not supported."""
    initiator = connect()
    initiator.send(Logout(0x06, 0x80 | reason, 0, 4, cid, initiator.next_cmd_sn(), 0))
    pdu, _ = initiator.receive_frame()
    assert isinstance(pdu, LogoutResponse)
    assert pdu.response == response
    assert initiator.command(TEST_UNIT_READY).status == GOOD


def test_two_connections_of_one_session(connect: Connect, server: Server) -> None:
    first = connect(MaxConnections="2")
    second = connect(login=False)
    second.tsih, second.cid = first.tsih, 1
    second.login(server.target.name)
    assert second.tsih == first.tsih
    second.cmd_sn = first.cmd_sn  # commands are numbered over both
    assert second.command(write_10(3, 1), b"m" * 512).status == GOOD
    first.cmd_sn = second.cmd_sn
    assert first.command(read_10(3, 1), data_in_length=512).data == b"m" * 512
    second.cmd_sn = first.cmd_sn
    second.logout(reason=1)
    first.cmd_sn = second.cmd_sn
    assert first.command(TEST_UNIT_READY).status == GOOD


SESSION = {
    "MaxConnections": "2",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "FirstBurstLength": "262144",
    "MaxBurstLength": "131072",
}


def leading(connect: Connect, server: Server) -> Initiator:
    first = connect(login=False)
    first.login(server.target.name, **SESSION)
    return first


def further(connect: Connect, server: Server, first: Initiator, cid: int = 1, **keys: str) -> Initiator:
    """A further connection of the session of `first`, whose next command it numbers."""
    second = connect(login=False)
    second.tsih, second.cid = first.tsih, cid
    second.agreed = {key: first.agreed[key] for key in SESSION if key in first.agreed}
    second.login(server.target.name, **keys)
    second.cmd_sn = first.cmd_sn
    return second


def test_a_later_connection_has_the_sessions_parameters(connect: Connect, server: Server) -> None:
    """13.10 to 13.14 are session-wide (SW): 128 KiB of immediate data are as good on the second connection.
    Data-In is cut by the bursts of the session and the segments of the connection (13.12: CO)."""
    first = leading(connect, server)
    second = further(connect, server, first, MaxRecvDataSegmentLength="65536", HeaderDigest="CRC32C")
    data = b"".join(bytes([number]) * 512 for number in range(256))
    assert second.command(write_10(0, 256), data).status == GOOD
    read = second.command(read_10(0, 256), data_in_length=len(data))
    assert (read.data, read.pdus) == (data, 2)
    first.cmd_sn = second.cmd_sn
    assert first.command(read_10(0, 256), data_in_length=len(data)).pdus == 16  # of 8192 bytes: the default


def test_unsolicited_data_on_a_later_connection(connect: Connect, server: Server) -> None:
    """InitialR2T=No of the leading login."""
    second = further(connect, server, leading(connect, server))
    second.send(
        ScsiCommand(0x01, 0x20, 0, bytes(8), 9, 1024, second.next_cmd_sn(), 0, write_10(1, 2) + bytes(6))
    )
    second.send(DataOut(0x05, 0x80, 0, bytes(8), 9, 0xFFFFFFFF, 0, 0, 0), b"u" * 1024)
    assert second.result(9).status == GOOD


def test_a_later_connection_leaves_the_session_as_it_is(connect: Connect, server: Server) -> None:
    """13: a key of use LO is negotiated by the leading connection alone."""
    first = leading(connect, server)
    second = further(connect, server, first, MaxBurstLength="512", InitialR2T="Yes")
    assert (second.agreed["MaxBurstLength"], second.agreed["InitialR2T"]) == ("Reject", "Reject")
    first.cmd_sn = second.cmd_sn
    read = first.command(read_10(0, 64), data_in_length=32768)
    assert (len(read.data), read.pdus) == (32768, 4)


@pytest.mark.parametrize(
    ("tsih", "cid", "portal", "status"),  # 11.13.5
    [(9999, 1, 0, 0x020A), (None, 1, 1, 0x0208), (None, 1, 0, 0x0206)],
)
def test_a_connection_that_fits_no_session(
    connect: Connect,
    server: Server,
    tsih: int | None,
    cid: int,
    portal: int,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = connect()  # whose MaxConnections is 1
    second = connect(portal, login=False)
    second.tsih, second.cid = first.tsih if tsih is None else tsih, cid
    with pytest.raises(LoginRefusedError) as refused:
        second.login(server.target.name)
    assert refused.value.status == status
    assert "login refused" in caplog.text
    caplog.clear()


def test_connection_reinstatement(connect: Connect, server: Server) -> None:
    """6.3.4: a login with the CID of a connection takes its place; its tasks end, the session stays."""
    first = connect(MaxConnections="2")
    assert first.command(bytes.fromhex("160000000000")).status == GOOD  # RESERVE(6)
    waiting = ScsiCommand(0x01, 0xA0, 0, bytes(8), 77, 512, first.next_cmd_sn(), 0, write_10(0, 1) + bytes(6))
    first.send(waiting)
    assert isinstance(first.receive_frame()[0], R2T)
    again = connect(login=False)
    again.tsih, again.cid, again.cmd_sn = first.tsih, first.cid, first.cmd_sn
    again.login(server.target.name)
    assert again.tsih == first.tsih
    with pytest.raises(EOFError):
        first.receive_frame()
    assert len(server.target.sessions[again.tsih].commands) == 0
    assert again.command(TEST_UNIT_READY).status == GOOD
    other = connect(isid=2)
    assert other.command(TEST_UNIT_READY).status == 0x18  # still reserved
    assert again.command(bytes.fromhex("170000000000")).status == GOOD


def test_session_reinstatement(connect: Connect) -> None:
    """6.3.5: the same initiator port logs in anew; its old session ends."""
    old = connect()
    new = connect()
    assert new.command(TEST_UNIT_READY).status == GOOD
    with pytest.raises(EOFError):
        old.receive_frame()


def test_reservations_are_kept_between_sessions(connect: Connect) -> None:
    """SPC-5 5.13: one initiator port registers and reserves, another meets a RESERVATION CONFLICT (18h)."""
    one, other = connect(isid=1), connect(isid=2)
    register = bytes.fromhex("5f000000000000001800")
    assert one.command(register, bytes(8) + b"\0\0\0\0\0\0\0\7" + bytes(8)).status == GOOD
    reserve = bytes.fromhex("5f010300000000001800")  # EXCLUSIVE ACCESS
    assert one.command(reserve, b"\0\0\0\0\0\0\0\7" + bytes(16)).status == GOOD
    assert other.command(read_10(0, 1), data_in_length=512).status == 0x18
    assert one.command(read_10(0, 1), data_in_length=512).status == GOOD
    one.close()
    again = connect(isid=1)
    assert again.command(read_10(0, 1), data_in_length=512).status == GOOD  # the same I_T nexus
    clear = bytes.fromhex("5f030000000000001800")
    assert again.command(clear, b"\0\0\0\0\0\0\0\7" + bytes(16)).status == GOOD


def test_a_lost_connection_ends_the_session_and_its_reservation(connect: Connect, server: Server) -> None:
    """SAM-5 6.3.4: RESERVE(6) goes with the nexus."""
    one, other = connect(isid=1), connect(isid=2)
    assert one.command(bytes.fromhex("160000000000")).status == GOOD
    assert other.command(TEST_UNIT_READY).status == 0x18
    one.close()
    again = connect(isid=1)  # whose login ends the old session, if the target has not noticed yet
    assert again.command(TEST_UNIT_READY).status == GOOD
    assert other.command(TEST_UNIT_READY).status == GOOD


def test_response_of_a_command_carries_no_stale_flags(connect: Connect) -> None:
    initiator = connect()
    initiator.send(ScsiCommand(0x01, 0x81, 0, bytes(8), 3, 0, initiator.next_cmd_sn(), 0, bytes(16)))
    pdu, data = initiator.receive_frame()
    assert isinstance(pdu, ScsiResponse)
    assert (pdu.flags, pdu.response, pdu.status, pdu.residual, data) == (0x80, 0, 0, 0, b"")
