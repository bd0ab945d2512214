"""Expected bytes: include/uapi/linux/{netlink,genetlink,target_core_user}.h, written out little-endian."""

import errno
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.kernel import genl
from tcmu_runner.kernel.genl import (
    ConfigChange,
    Event,
    EventKind,
    Message,
    NetlinkError,
    SizeChange,
    WriteCacheChange,
)

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="netlink is in native byte order")


def one(datagram: bytes) -> Message:
    (message,) = genl.split(datagram)
    return message


def event(command: int, *attributes: bytes, version: int = 2) -> Message:
    return Message(0x1C, 0, 0, bytes([command, version, 0, 0]) + b"".join(attributes))


DEVICE = genl.attribute(1, b"tcm-user/0/vol0/file//x\0")
MINOR = genl.attribute(2, struct.pack("=I", 3))
DEVICE_ID = genl.attribute(8, struct.pack("=I", 5))


@little_endian
def test_reply_is_36_bytes_with_status_and_device_id() -> None:
    # nlmsghdr (length 36, family, NLM_F_REQUEST | NLM_F_ACK, seq, pid), genlmsghdr (ADDED_DEVICE_DONE = 4,
    # version 2), CMD_STATUS = 7, DEVICE_ID = 8
    expected = "24000000 1c00 0500 01000000 00000000 | 04 02 0000 | 0800 0700 00000000 | 0800 0800 05000000"
    reply = genl.encode_reply(0x1C, EventKind.ADDED, 5, 0, 1)
    assert reply == bytes.fromhex(expected.replace("|", ""))


@little_endian
def test_replies_are_the_counterpart_of_their_event_with_a_negative_errno() -> None:
    removed = genl.encode_reply(0x1C, EventKind.REMOVED, 5, 0, 1)
    reconfig = genl.encode_reply(0x1C, EventKind.RECONFIG, 5, -errno.EINVAL, 1)
    assert removed[16] == 5  # TCMU_CMD_REMOVED_DEVICE_DONE
    assert reconfig[16] == 6  # TCMU_CMD_RECONFIG_DEVICE_DONE
    assert reconfig[20:28] == bytes.fromhex("08000700 eaffffff")  # -22


@pytest.mark.parametrize("status", [1, 22, -4096, -(1 << 40), 1 << 40])
def test_a_status_the_kernel_would_take_for_success_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="neither 0 nor a negative errno"):
        genl.encode_reply(0x1C, EventKind.ADDED, 5, status, 1)


@little_endian
@pytest.mark.parametrize(("replies", "value"), [(True, "01"), (False, "00")])
def test_set_features(replies: bool, value: str) -> None:
    # command 7, attribute 9 SUPP_KERN_CMD_REPLY, u8 padded to four bytes
    expected = bytes.fromhex(f"1c000000 1c00 0500 07000000 00000000 07020000 05000900 {value}000000")
    assert genl.encode_set_features(0x1C, replies, 7) == expected


@little_endian
def test_get_family_asks_the_controller_by_name() -> None:
    # GENL_ID_CTRL = 0x10, CTRL_CMD_GETFAMILY = 3, version 1, CTRL_ATTR_FAMILY_NAME = 2
    expected = bytes.fromhex(
        "24000000 1000 0500 02000000 00000000 03010000 0d000200 54434d2d5553455200 000000"
    )
    assert genl.encode_get_family("TCM-USER", 2) == expected


@little_endian
def test_family_answer_gives_id_and_groups() -> None:
    # CTRL_CMD_NEWFAMILY = 1: FAMILY_NAME, FAMILY_ID = 1, VERSION = 3, MCAST_GROUPS = 7 {index {2 ID, 1 NAME}}
    body = (
        "01020000 0d000200 54434d2d5553455200 000000 06000100 1c000000 08000300 02000000"
        "1c000780 18000180 08000200 07000000 0b000100 636f6e66696700 00"
    )
    answer = genl.decode_family(Message(0x10, 0, 1, bytes.fromhex(body)))
    assert answer == genl.Family(id=0x1C, groups={"config": 7})


def test_family_without_groups() -> None:
    body = bytes([1, 2, 0, 0]) + genl.attribute(1, struct.pack("=H", 0x1C))
    assert genl.decode_family(Message(0x10, 0, 1, body)).groups == {}


@pytest.mark.parametrize(("kind", "command"), [(0x10, 2), (0x1C, 1)])
def test_what_is_no_family_answer_is_refused(kind: int, command: int) -> None:
    with pytest.raises(NetlinkError, match="controller answered"):
        genl.decode_family(Message(kind, 0, 1, bytes([command, 2, 0, 0])))


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (-2, errno.ENOENT), (-19, errno.ENODEV)])
def test_error_message(code: int, expected: int) -> None:
    assert genl.decode_error(Message(2, 0, 1, struct.pack("=i", code) + bytes(16))) == expected


def test_other_messages_are_no_error() -> None:
    assert genl.decode_error(Message(0x1C, 0, 1, b"")) is None


def test_short_error_message() -> None:
    with pytest.raises(NetlinkError, match="cut short"):
        genl.decode_error(Message(2, 0, 1, b"\0\0"))


@little_endian
def test_added_event_as_the_kernel_sends_it() -> None:
    sent = bytes.fromhex(
        "40000000 1c00 0000 00000000 00000000 01020000"  # flags, seq and pid 0; ADDED_DEVICE
        "1c000100 74636d2d757365722f302f766f6c302f66696c652f2f7800"  # "tcm-user/0/vol0/file//x"
        "08000200 03000000 08000800 05000000"
    )
    assert genl.decode_event(one(sent)) == Event(EventKind.ADDED, "tcm-user/0/vol0/file//x", 3, 5, 2)


def test_event_of_an_old_kernel_has_no_device_id() -> None:
    decoded = genl.decode_event(event(2, DEVICE, MINOR, version=1))
    assert decoded == Event(EventKind.REMOVED, "tcm-user/0/vol0/file//x", 3, None, 1)


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        (genl.attribute(4, b"file//new\n\0"), ConfigChange("file//new")),
        (genl.attribute(5, struct.pack("=Q", 1 << 40)), SizeChange(1 << 40)),
        (genl.attribute(3, b"") + genl.attribute(5, struct.pack("=Q", 512)), SizeChange(512)),
        (genl.attribute(6, b"\1"), WriteCacheChange(enabled=True)),
        (genl.attribute(6, b"\0"), WriteCacheChange(enabled=False)),
        (genl.attribute(10, b"of a later kernel"), None),
    ],
)
def test_reconfig_events(attribute: bytes, change: genl.Change | None) -> None:
    decoded = genl.decode_event(event(3, DEVICE, MINOR, DEVICE_ID, attribute))
    assert (decoded.kind, decoded.change) == (EventKind.RECONFIG, change)


def test_names_keep_bytes_that_are_not_utf8_and_lose_the_newline_of_echo() -> None:
    decoded = genl.decode_event(event(1, genl.attribute(1, b"tcm-user/0/v/file//\xff\n\0"), MINOR))
    assert decoded.device.encode("utf-8", "surrogateescape") == b"tcm-user/0/v/file//\xff"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Message(0x1C, 0, 0, b"\1\2"), "header is cut short"),
        (event(1, MINOR, DEVICE_ID), "attribute 1 is missing"),
        (event(1, DEVICE, DEVICE_ID), "attribute 2 is missing"),
        (event(1, DEVICE, genl.attribute(2, b"\0\0")), "2 bytes instead of 4"),
        (event(4, DEVICE, MINOR, DEVICE_ID), "is no event"),
        (event(0, DEVICE, MINOR, DEVICE_ID), "is no event"),
        (event(1, b"\3\0\1\0"), "attribute of 3 bytes"),
        (event(1, b"\x40\0\1\0abcd"), "attribute of 64 bytes where 8"),
        (event(1, DEVICE, b"\0"), "header is cut short"),
    ],
)
def test_unreadable_events(message: Message, says: str) -> None:
    with pytest.raises(NetlinkError, match=says):
        genl.decode_event(message)


def test_several_messages_in_a_datagram_are_aligned_to_four_bytes() -> None:
    first, second = Message(1, 0, 1, b"abc"), Message(2, 0, 2, b"d")
    assert list(genl.split(first.encode() + b"\0" + second.encode())) == [first, second]


@pytest.mark.parametrize("cut", range(1, 36))
def test_a_message_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(NetlinkError):
        list(genl.split(genl.encode_reply(0x1C, EventKind.ADDED, 5, 0, 1)[:cut]))


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_numbers_of_every_width_and_their_wrong_sizes(width: int) -> None:
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
    attributes = genl.parse_attributes(genl.attribute(1, struct.pack("=" + letter, 200)))
    getters = {1: attributes.u8, 2: attributes.u16, 4: attributes.u32, 8: attributes.u64}
    assert getters.pop(width)(1) == 200
    for getter in getters.values():
        with pytest.raises(NetlinkError, match="instead of"):
            getter(1)


def test_signed_number_and_nested_flag() -> None:
    inner = genl.attribute(7, struct.pack("=i", -22))
    outer = genl.parse_attributes(genl.attribute(1 | 0x8000, inner))  # NLA_F_NESTED
    assert outer.nested(1).s32(7) == -22


# Any bytes from a socket either decode or raise NetlinkError.
@given(st.binary(max_size=200))
def test_any_datagram_decodes_or_is_refused(datagram: bytes) -> None:
    try:
        for message in genl.split(datagram):
            decode_all(message)
    except NetlinkError:
        pass


FRAMED_ATTRIBUTES = st.lists(
    st.builds(genl.attribute, st.integers(0, 12), st.binary(max_size=40)), max_size=6
)


@given(st.integers(0, 8), st.integers(0, 255), FRAMED_ATTRIBUTES)
def test_any_framed_attributes_decode_or_are_refused(command: int, version: int, found: list[bytes]) -> None:
    message = event(command, *found, version=version)
    assert one(message.encode()) == message
    decode_all(message)
    decode_all(Message(0x10, 0, 0, message.body))


def decode_all(message: Message) -> None:
    for decode in (genl.decode_event, genl.decode_family, genl.decode_error):
        try:
            decode(message)
        except NetlinkError:
            continue
