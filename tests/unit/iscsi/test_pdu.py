"""Header layouts: offsets are those of the diagrams of RFC 7143, 11."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi import pdu, requests, responses
from tcmu_runner.iscsi.pdu import UnknownOpcodeError, decode, encode

LUN = bytes.fromhex("0001000000000000")


def header(**fields: bytes) -> bytes:
    """48 bytes with hex fields at their offsets: at8=b"..." and so on."""
    data = bytearray(48)
    for name, value in fields.items():
        at = int(name.removeprefix("at"))
        data[at : at + len(value)] = value
    return bytes(data)


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


# (header of the RFC's diagram, what it says)
REQUESTS = [
    (  # 11.3: CDB at 32, Expected Data Transfer Length at 20
        header(at0=b"\x41\xa1", at4=b"\x01\x00\x02\x00", at8=LUN, at16=number(5), at20=number(512),
               at24=number(7), at28=number(9), at32=bytes(range(16))),
        requests.ScsiCommand(0x41, 0xA1, 0x01000200, LUN, 5, 512, 7, 9, bytes(range(16))),
    ),
    (  # 11.5: Referenced Task Tag 20, RefCmdSN 32, ExpDataSN 36
        header(at0=b"\x42\x81", at8=LUN, at16=number(5), at20=number(4), at24=number(7), at28=number(9),
               at32=number(6), at36=number(3)),
        requests.TaskManagementRequest(0x42, 0x81, 0, LUN, 5, 4, 7, 9, 6, 3),
    ),
    (  # 11.7.1: Target Transfer Tag 20, ExpStatSN 28, DataSN 36, Buffer Offset 40
        header(at0=b"\x05\x80", at4=number(512), at8=LUN, at16=number(5), at20=number(77), at28=number(9),
               at36=number(2), at40=number(8192)),
        requests.DataOut(0x05, 0x80, 512, LUN, 5, 77, 9, 2, 8192),
    ),
    (  # 11.10: Target Transfer Tag 20
        header(at0=b"\x04\x80", at4=number(16), at8=LUN, at16=number(5), at20=b"\xff" * 4, at24=number(7),
               at28=number(9)),
        requests.Text(0x04, 0x80, 16, LUN, 5, 0xFFFFFFFF, 7, 9),
    ),
    (  # 11.12: versions 2 and 3, ISID 8, TSIH 14, CID 20
        header(at0=b"\x43\x87\x00\x00", at4=number(100), at8=b"\x00\x02\x3d\x00\x00\x01", at14=b"\x00\x09",
               at16=number(5), at20=b"\x00\x03", at24=number(7), at28=number(9)),
        requests.Login(0x43, 0x87, 0, 0, 100, b"\x00\x02\x3d\x00\x00\x01", 9, 5, 3, 7, 9),
    ),
    (  # 11.14: reason in the flags, CID 20
        header(at0=b"\x46\x81", at16=number(5), at20=b"\x00\x03", at24=number(7), at28=number(9)),
        requests.Logout(0x46, 0x81, 0, 5, 3, 7, 9),
    ),
    (  # 11.16: BegRun 40, RunLength 44
        header(at0=b"\x10\x80", at8=LUN, at16=number(5), at20=number(6), at28=number(9), at40=number(1),
               at44=number(2)),
        requests.Snack(0x10, 0x80, 0, LUN, 5, 6, 9, 1, 2),
    ),
    (  # 11.18
        header(at0=b"\x40\x80", at4=number(4), at8=LUN, at16=number(5), at20=number(6), at24=number(7),
               at28=number(9)),
        requests.NopOut(0x40, 0x80, 4, LUN, 5, 6, 7, 9),
    ),
]  # fmt: skip
RESPONSES = [
    (  # 11.4: response 2, status 3, ITT 16, StatSN 24, ExpDataSN 36, bidirectional residual 40, residual 44
        header(at0=b"\x21\x82\x00\x02", at4=number(20), at16=number(5), at24=number(1), at28=number(2),
               at32=number(3), at36=number(4), at40=number(6), at44=number(7)),
        responses.ScsiResponse(0x21, 0x82, 0, 2, 20, 5, 1, 2, 3, 4, 6, 7),
    ),
    (  # 11.6: response 2
        header(at0=b"\x22\x80\x05", at16=number(5), at24=number(1), at28=number(2), at32=number(3)),
        responses.TaskManagementResponse(0x22, 0x80, 5, 0, 5, 1, 2, 3),
    ),
    (  # 11.7.2: status 3, StatSN 24, DataSN 36, Buffer Offset 40, Residual 44
        header(at0=b"\x25\x83\x00\x08", at4=number(512), at8=LUN, at16=number(5), at20=b"\xff" * 4,
               at24=number(1), at28=number(2), at32=number(3), at36=number(4), at40=number(6),
               at44=number(7)),
        responses.DataIn(0x25, 0x83, 8, 512, LUN, 5, 0xFFFFFFFF, 1, 2, 3, 4, 6, 7),
    ),
    (  # 11.8: R2TSN 36, Buffer Offset 40, Desired Data Transfer Length 44
        header(at0=b"\x31\x80", at8=LUN, at16=number(5), at20=number(77), at24=number(1), at28=number(2),
               at32=number(3), at36=number(4), at40=number(6), at44=number(7)),
        responses.R2T(0x31, 0x80, 0, LUN, 5, 77, 1, 2, 3, 4, 6, 7),
    ),
    (  # 11.9: AsyncEvent 36, AsyncVCode 37, Parameters 38, 40, 42
        header(at0=b"\x32\x80", at8=LUN, at16=b"\xff" * 4, at24=number(1), at28=number(2), at32=number(3),
               at36=b"\x01\x00\x00\x02\x00\x03\x00\x04"),
        responses.AsyncMessage(0x32, 0x80, 0, LUN, 0xFFFFFFFF, 1, 2, 3, 1, 0, 2, 3, 4),
    ),
    (  # 11.11
        header(at0=b"\x24\x80", at4=number(9), at8=LUN, at16=number(5), at20=b"\xff" * 4, at24=number(1),
               at28=number(2), at32=number(3)),
        responses.TextResponse(0x24, 0x80, 9, LUN, 5, 0xFFFFFFFF, 1, 2, 3),
    ),
    (  # 11.13: StatSN 24, Status-Class 36, Status-Detail 37
        header(at0=b"\x23\x87\x00\x00", at4=number(9), at8=b"\x00\x02\x3d\x00\x00\x01", at14=b"\x00\x09",
               at16=number(5), at24=number(1), at28=number(2), at32=number(3), at36=b"\x02\x01"),
        responses.LoginResponse(0x23, 0x87, 0, 0, 9, b"\x00\x02\x3d\x00\x00\x01", 9, 5, 1, 2, 3, 0x0201),
    ),
    (  # 11.15: Time2Wait 40, Time2Retain 42
        header(at0=b"\x26\x80\x01", at16=number(5), at24=number(1), at28=number(2), at32=number(3),
               at40=b"\x00\x02\x00\x14"),
        responses.LogoutResponse(0x26, 0x80, 1, 0, 5, 1, 2, 3, 2, 20),
    ),
    (  # 11.17: reason 2, DataSN/R2TSN 36
        header(at0=b"\x3f\x80\x04", at4=number(48), at16=b"\xff" * 4, at24=number(1), at28=number(2),
               at32=number(3), at36=number(4)),
        responses.Reject(0x3F, 0x80, 4, 48, 0xFFFFFFFF, 1, 2, 3, 4),
    ),
    (  # 11.19
        header(at0=b"\x20\x80", at4=number(4), at8=LUN, at16=number(5), at20=b"\xff" * 4, at24=number(1),
               at28=number(2), at32=number(3)),
        responses.NopIn(0x20, 0x80, 4, LUN, 5, 0xFFFFFFFF, 1, 2, 3),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "meaning"), REQUESTS + RESPONSES, ids=lambda value: type(value).__name__)
def test_layout(wire: bytes, meaning: pdu.Pdu) -> None:
    assert decode(wire) == meaning
    assert type(decode(memoryview(wire))) is type(meaning)
    assert encode(meaning) == wire


@pytest.mark.parametrize("opcode", [0x07, 0x1F, 0x2A, 0x3E])
def test_other_opcodes_are_unknown(opcode: int) -> None:
    with pytest.raises(UnknownOpcodeError, match=f"{opcode:#04x}"):
        decode(bytes((opcode,)) + bytes(47))


@given(st.binary(min_size=48, max_size=48))
def test_any_header_decodes_or_is_unknown(wire: bytes) -> None:
    """Any 48 bytes are a PDU, which encodes to the same but for reserved bytes, or an unknown opcode."""
    try:
        found = decode(wire)
    except UnknownOpcodeError:
        return
    assert decode(encode(found)) == found


@pytest.mark.parametrize(("length", "fill"), [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (4097, 3)])
def test_padding(length: int, fill: int) -> None:
    assert pdu.padding(length) == fill
