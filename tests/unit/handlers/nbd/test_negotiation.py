"""The negotiation, as a conversation. Bytes are those of proto.md."""

from __future__ import annotations

import struct

import pytest

from tcmu_runner.handlers.nbd.negotiation import Tls, negotiate
from tcmu_runner.handlers.nbd.wire import ExportFlag, NbdError, NbdExport

HELLO = b"NBDMAGICIHAVEOPT\0\3"
OLD = b"NBDMAGIC" + bytes.fromhex("0000420281861253")
UNSUP, UNKNOWN, TLS_REQD = 0x80000001, 0x80000006, 0x80000005


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return bytes.fromhex("0003e889045565a9") + struct.pack(">III", option, kind, len(data)) + data


def play(script: bytes, *, name: str = "vol", tls: bool = False) -> tuple[NbdExport, bytes, int]:
    """A server that says all this; what came of it, what the client sent, how often TLS was started."""
    steps, sent, encrypted = negotiate(name, tls=tls), b"", 0
    step = next(steps)
    try:
        while True:
            if isinstance(step, bytes):
                sent += step
                step = next(steps)
            elif isinstance(step, Tls):
                encrypted += 1
                step = next(steps)
            else:
                assert len(script) >= step, "the client wants more than the server has to say"
                said, script = script[:step], script[step:]
                step = steps.send(said)
    except StopIteration as end:
        assert not script
        return end.value, sent, encrypted


def go(size: int = 1 << 20, flags: int = 0x1D) -> bytes:
    return reply(7, 3, struct.pack(">HQH", 0, size, flags)) + reply(7, 1)


def test_simple_replies() -> None:
    export, sent, _ = play(HELLO + reply(8, UNSUP) + go())
    flags = ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA | ExportFlag.ROTATIONAL | 1
    assert export == NbdExport(1 << 20, flags, 1, 32 << 20, structured=False, context=None)
    option = b"IHAVEOPT" + struct.pack(">II", 7, 11) + b"\0\0\0\3vol" + b"\0\1\0\3"
    assert sent == b"\0\0\0\3" + b"IHAVEOPT" + struct.pack(">II", 8, 0) + option


def test_structured_replies_with_a_context_and_block_sizes() -> None:
    context = reply(10, 4, b"\0\0\0\5base:allocation") + reply(10, 1)
    sizes = reply(7, 3, struct.pack(">HIII", 3, 512, 4096, 1 << 20))
    export, sent, _ = play(HELLO + reply(8, 1) + context + sizes + go())
    assert export.structured and export.context == 5
    assert (export.minimum, export.maximum) == (512, 1 << 20)
    assert b"\0\0\0\3vol" + b"\0\0\0\1" + b"\0\0\0\x0fbase:allocation" in sent


def test_a_server_without_the_context() -> None:
    export, _, _ = play(HELLO + reply(8, 1) + reply(10, 1) + go())
    assert export.structured and export.context is None


def test_tls() -> None:
    export, sent, encrypted = play(HELLO + reply(5, 1) + reply(8, UNSUP) + go(), tls=True)
    assert encrypted == 1 and export.size == 1 << 20
    assert sent.startswith(b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 5, 0))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (b"SSH-2.0-OpenSSH_9", "this is no NBD server: correct the address"),
        (OLD + b"\0\0", "too old"),
        (HELLO + reply(8, UNSUP) + reply(7, UNSUP), "too old: it does not know NBD_OPT_GO"),
        (HELLO + reply(8, UNSUP) + reply(7, UNKNOWN), "export 'vol': the server has no such export"),
        (HELLO + reply(8, TLS_REQD) + reply(7, TLS_REQD), "demands TLS: add ;tls=DIRECTORY"),
        (HELLO + reply(8, UNSUP) + reply(7, 0x80000042, b"no"), "refuses it (0x80000042) no"),
        (HELLO + reply(8, UNSUP) + reply(7, 1), "does not tell what the export is"),
        (HELLO + reply(9, UNSUP), "reply to option STRUCTURED_REPLY is garbled"),
        (HELLO + reply(8, 3, bytes(60_000)) * 65, "option STRUCTURED_REPLY without end"),
        (HELLO + reply(8, 1, b"")[:16] + b"\xff\xff\xff\xff", "is garbled"),
    ],
)
def test_what_is_wrong(script: bytes, message: str) -> None:
    with pytest.raises(NbdError) as error:
        play(script.ljust(18, b"\0"))
    assert message in str(error.value)


def test_no_tls_at_the_server() -> None:
    with pytest.raises(NbdError, match="has no TLS: give it a certificate, or leave out ;tls="):
        play(HELLO + reply(5, UNSUP), tls=True)
