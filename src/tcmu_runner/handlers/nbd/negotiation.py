"""The negotiation without I/O: a generator that yields what to send and how many bytes to receive."""

from __future__ import annotations

import struct
from collections.abc import Generator
from enum import Enum

from tcmu_runner.handlers.nbd.wire import (
    CONTEXT,
    FIXED_NEWSTYLE,
    GREETING,
    HELLO,
    NO_ZEROES,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    UNTOLD,
    ExportFlag,
    Info,
    NbdError,
    NbdExport,
    Option,
    OptionReply,
)


class Tls(Enum):
    """Steps that are neither bytes to send nor a number of bytes to receive."""

    START = "start"


Steps = Generator[bytes | int | Tls, bytes, NbdExport]  # bytes: send; int: receive so many; Tls: start TLS
Replies = Generator[bytes | int | Tls, bytes, list[tuple[int, bytes]]]

MOST = 64  # replies to one option: some about the export, one about the context, and the last
LONGEST = 1 << 16  # bytes of a reply: names, descriptions and errors are shorter
_REASONS = {
    OptionReply.ERR_POLICY: "it is not allowed to this client: see the server's configuration",
    OptionReply.ERR_TLS_REQD: "the server demands TLS: add ;tls=DIRECTORY with the certificates",
    OptionReply.ERR_UNKNOWN: "the server has no such export: correct ;export=NAME",
    OptionReply.ERR_SHUTDOWN: "the server is shutting down",
    OptionReply.ERR_UNSUP: "the server is too old: it does not know NBD_OPT_GO",
}


def negotiate(name: str, *, tls: bool) -> Steps:
    """Leads to the transmission phase of the export `name`. Raises NbdError."""
    yield from _greet()
    if tls:
        yield from _start_tls()
    structured = (yield from _ask(Option.STRUCTURED_REPLY))[-1][0] == OptionReply.ACK
    context = (yield from _choose_context(name)) if structured else None
    return (yield from _go(name, structured=structured, context=context))


def _greet() -> Generator[bytes | int | Tls, bytes, None]:
    greeting, magic, flags = HELLO.unpack((yield HELLO.size))
    if greeting != GREETING:
        raise NbdError("this is no NBD server: correct the address")
    if magic != OPTION_MAGIC or not flags & FIXED_NEWSTYLE:
        raise NbdError("the server is too old: it does not know the fixed newstyle negotiation")
    yield struct.pack(">I", flags & (FIXED_NEWSTYLE | NO_ZEROES))


def _start_tls() -> Generator[bytes | int | Tls, bytes, None]:
    if (yield from _ask(Option.STARTTLS))[-1][0] != OptionReply.ACK:
        raise NbdError("the server has no TLS: give it a certificate, or leave out ;tls=")
    yield Tls.START


def _choose_context(name: str) -> Generator[bytes | int | Tls, bytes, int | None]:
    encoded = name.encode()
    query = struct.pack(">I", len(encoded)) + encoded + struct.pack(">II", 1, len(CONTEXT)) + CONTEXT
    for kind, data in (yield from _ask(Option.SET_META_CONTEXT, query)):
        if kind == OptionReply.META_CONTEXT and data[4:] == CONTEXT:
            return int.from_bytes(data[:4], "big")
    return None


def _go(name: str, *, structured: bool, context: int | None) -> Steps:
    encoded = name.encode()
    wanted = struct.pack(">HH", 1, Info.BLOCK_SIZE)
    replies = yield from _ask(Option.GO, struct.pack(">I", len(encoded)) + encoded + wanted)
    kind, data = replies[-1]
    if kind != OptionReply.ACK:
        reason = _REASONS.get(OptionReply(kind)) if kind in list(OptionReply) else None
        raise NbdError(f"export {name!r}: {reason or _text(kind, data)}")
    infos = {int.from_bytes(data[:2], "big"): data[2:] for kind, data in replies if kind == OptionReply.INFO}
    try:
        size, flags = struct.unpack(">QH", infos[Info.EXPORT])
        minimum, _, maximum = struct.unpack(">III", infos.get(Info.BLOCK_SIZE, bytes(12)))
    except (KeyError, struct.error):
        raise NbdError("the server does not tell what the export is") from None
    if not minimum:
        minimum, maximum = UNTOLD
    return NbdExport(size, ExportFlag(flags), minimum, maximum, structured, context)


def _text(kind: int, data: bytes) -> str:
    return f"the server refuses it ({kind:#x}) {data.decode(errors='replace')}".rstrip()


def _ask(option: Option, data: bytes = b"") -> Replies:
    """Sends an option; returns all its replies, of which the last is an acknowledgement or an error."""
    yield OPTION.pack(OPTION_MAGIC, option, len(data)) + data
    replies: list[tuple[int, bytes]] = []
    while True:
        magic, about, kind, length = OPTION_REPLY.unpack((yield OPTION_REPLY.size))
        if magic != OPTION_REPLY_MAGIC or about != option or length > LONGEST:
            raise NbdError(f"the server's reply to option {option.name} is garbled")
        if len(replies) == MOST:
            raise NbdError(f"the server replies to option {option.name} without end")
        replies.append((kind, (yield length) if length else b""))
        if kind == OptionReply.ACK or kind & 1 << 31:
            return replies
