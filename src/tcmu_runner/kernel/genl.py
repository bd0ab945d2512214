"""Generic netlink as bytes: the messages of the kernel's TCM-USER family, encoded and decoded. No sockets.

Layouts: `include/uapi/linux/{netlink,genetlink,target_core_user}.h`; integers are in the CPU's byte order.
Every decoder raises `NetlinkError`, and nothing else, for bytes it cannot understand.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from tcmu_runner.errors import TcmuError

FAMILY = "TCM-USER"
GROUP = "config"

_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port id
_GENERIC = struct.Struct("=BBH")  # genlmsghdr: command, version, reserved
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length with this header, type
_U8, _U16, _U32, _S32, _U64 = (struct.Struct("=" + letter) for letter in "BHIiQ")

_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: the two bits above say "nested" and "network byte order"
_ERROR = 2  # NLMSG_ERROR, also the acknowledgement when its error is 0
# The kernel ignores messages without NLM_F_REQUEST (netlink_rcv_skb).
_REQUEST_ACK = 0x1 | 0x4

_CONTROLLER, _GET_FAMILY, _NEW_FAMILY = 0x10, 3, 1
_FAMILY_ID, _FAMILY_NAME, _FAMILY_GROUPS = 1, 2, 7
_GROUP_NAME, _GROUP_ID = 1, 2

_VERSION = 2
_SET_FEATURES = 7
_DEVICE, _MINOR, _DEV_CFG, _DEV_SIZE, _WRITECACHE = 1, 2, 4, 5, 6
_CMD_STATUS, _DEVICE_ID, _SUPP_KERN_CMD_REPLY = 7, 8, 9

_MAX_ERRNO = 4095  # include/linux/err.h: a smaller number is no errno to the kernel


class NetlinkError(TcmuError):
    """A netlink message that cannot be decoded, or an exchange without its expected answer."""


class EventKind(IntEnum):
    """An event's command (enum tcmu_genl_cmd). The reply to kind k is command k + 3."""

    ADDED = 1
    REMOVED = 2
    RECONFIG = 3


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The new config string, without the newline that `echo` leaves."""

    config: str


@dataclass(frozen=True, slots=True)
class SizeChange:
    """The new size in bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class WriteCacheChange:
    """The new value of emulate_write_cache."""

    enabled: bool


Change = ConfigChange | SizeChange | WriteCacheChange


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the kernel about one device.

    device: the UIO name `tcm-user/<hba>/<dev>/<config>` (bytes that are not UTF-8 as surrogate escapes, final
    newlines removed). minor: the N of uioN. device_id: None from kernels before 4.13 (version 1), which want
    no reply. change: for RECONFIG only; None there is a change that this daemon does not know: refuse it.
    """

    kind: EventKind
    device: str
    minor: int
    device_id: int | None
    version: int
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A generic netlink family as the controller describes it; `groups` are multicast group ids by name."""

    id: int
    groups: dict[str, int]


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; `type` is the family's id, or below 16 a control message."""

    type: int
    flags: int
    seq: int
    body: bytes

    def encode(self) -> bytes:
        return _MESSAGE.pack(_MESSAGE.size + len(self.body), self.type, self.flags, self.seq, 0) + self.body


class Attributes(dict[int, bytes]):
    """Attribute payloads by type. Getters raise NetlinkError for a missing attribute or a wrong size."""

    def u8(self, kind: int) -> int:
        return self._number(_U8, kind)

    def u16(self, kind: int) -> int:
        return self._number(_U16, kind)

    def u32(self, kind: int) -> int:
        return self._number(_U32, kind)

    def s32(self, kind: int) -> int:
        return self._number(_S32, kind)

    def u64(self, kind: int) -> int:
        return self._number(_U64, kind)

    def text(self, kind: int) -> str:
        return self._payload(kind).partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def nested(self, kind: int) -> "Attributes":
        return parse_attributes(self._payload(kind))

    def _number(self, shape: struct.Struct, kind: int) -> int:
        payload = self._payload(kind)
        if len(payload) != shape.size:
            raise NetlinkError(f"netlink attribute {kind} has {len(payload)} bytes instead of {shape.size}")
        number: int = shape.unpack(payload)[0]
        return number

    def _payload(self, kind: int) -> bytes:
        if kind not in self:
            raise NetlinkError(f"netlink attribute {kind} is missing")
        return self[kind]


def parse_attributes(data: bytes) -> Attributes:
    """The attributes in `data`; a repeated one overwrites the earlier one, as in the kernel's own parser."""
    found = Attributes()
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise NetlinkError("netlink attribute header is cut short")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise NetlinkError(f"netlink attribute of {length} bytes where {len(data) - at} are left")
        found[kind & _TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes; the payload of a nested one is attributes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(_aligned(length) - length)


def split(datagram: bytes) -> Iterator[Message]:
    """The messages in one datagram."""
    at = 0
    while at < len(datagram):
        if len(datagram) - at < _MESSAGE.size:
            raise NetlinkError("netlink message header is cut short")
        length, kind, flags, seq, _port = _MESSAGE.unpack_from(datagram, at)
        if not _MESSAGE.size <= length <= len(datagram) - at:
            raise NetlinkError(f"netlink message of {length} bytes where {len(datagram) - at} are left")
        yield Message(kind, flags, seq, datagram[at + _MESSAGE.size : at + length])
        at += _aligned(length)


def encode_get_family(name: str, seq: int) -> bytes:
    """The request to the controller for a family by name; `decode_family` reads the answer."""
    return _command(_CONTROLLER, _GET_FAMILY, 1, attribute(_FAMILY_NAME, name.encode() + b"\0"), seq)


def decode_family(message: Message) -> Family:
    """CTRL_CMD_NEWFAMILY -> the family's id and its multicast groups."""
    command, _version, attributes = _parse_command(message)
    if message.type != _CONTROLLER or command != _NEW_FAMILY:
        raise NetlinkError(f"the netlink controller answered with command {command} of type {message.type}")
    listed = attributes.nested(_FAMILY_GROUPS) if _FAMILY_GROUPS in attributes else Attributes()
    groups = [listed.nested(index) for index in listed]
    return Family(
        attributes.u16(_FAMILY_ID), {group.text(_GROUP_NAME): group.u32(_GROUP_ID) for group in groups}
    )


def decode_error(message: Message) -> int | None:
    """The errno (0: acknowledged) of an NLMSG_ERROR; None for any other message."""
    if message.type != _ERROR:
        return None
    if len(message.body) < _S32.size:
        raise NetlinkError("netlink error message is cut short")
    code: int = _S32.unpack_from(message.body)[0]
    return -code


def decode_event(message: Message) -> Event:
    """An event of the TCM-USER family; the caller checks that `message.type` is this family's id."""
    command, version, attributes = _parse_command(message)
    if command not in set(EventKind):
        raise NetlinkError(f"TCM-USER netlink command {command} is no event")
    kind = EventKind(command)
    return Event(
        kind=kind,
        device=attributes.text(_DEVICE).rstrip("\n"),
        minor=attributes.u32(_MINOR),
        device_id=attributes.u32(_DEVICE_ID) if _DEVICE_ID in attributes else None,
        version=version,
        change=_change(attributes) if kind is EventKind.RECONFIG else None,
    )


def encode_reply(family: int, kind: EventKind, device_id: int, status: int, seq: int) -> bytes:
    """The `*_DONE` that ends the kernel's wait for an event: always the counterpart of `kind`.

    status: 0 or a negative errno; becomes the result of the administrator's write. Anything else is a
    ValueError: the kernel takes a positive number for a byte count, that is for success.
    """
    if not -_MAX_ERRNO <= status <= 0:
        raise ValueError(f"status {status} of a netlink reply is neither 0 nor a negative errno")
    attributes = attribute(_CMD_STATUS, _S32.pack(status)) + attribute(_DEVICE_ID, _U32.pack(device_id))
    return _command(family, kind + 3, _VERSION, attributes, seq)


def encode_set_features(family: int, replies: bool, seq: int) -> bytes:
    """Has the kernel wait for replies to events, or not; on all devices."""
    return _command(family, _SET_FEATURES, _VERSION, attribute(_SUPP_KERN_CMD_REPLY, _U8.pack(replies)), seq)


def _command(family: int, command: int, version: int, attributes: bytes, seq: int) -> bytes:
    body = _GENERIC.pack(command, version, 0) + attributes
    return Message(family, _REQUEST_ACK, seq, body).encode()


def _parse_command(message: Message) -> tuple[int, int, Attributes]:
    if len(message.body) < _GENERIC.size:
        raise NetlinkError("generic netlink header is cut short")
    command, version, _reserved = _GENERIC.unpack_from(message.body)
    return command, version, parse_attributes(message.body[_GENERIC.size :])


def _change(attributes: Attributes) -> Change | None:
    if _DEV_CFG in attributes:
        return ConfigChange(attributes.text(_DEV_CFG).rstrip("\n"))
    if _DEV_SIZE in attributes:
        return SizeChange(attributes.u64(_DEV_SIZE))
    if _WRITECACHE in attributes:
        return WriteCacheChange(attributes.u8(_WRITECACHE) != 0)
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3
