"""Text requests: SendTargets, and what may still be negotiated (RFC 7143, 11.10, appendix C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.embedded import text
from tcmu_runner.embedded.pdu import CONTINUE, FINAL, NO_LUN, NO_TAG, Opcode, Reason, Text, TextResponse
from tcmu_runner.embedded.text import AT_ANY_TIME, Pairs, TextError

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.embedded.framing import Frame

TRANSFER_TAG = 1  # one exchange at a time


class TextExchange:
    """What was said of a text request so far, and what is still to be answered."""

    def __init__(self) -> None:
        self.asked = b""
        self.answer = b""


def text_request(connection: Connection, pdu: Text, frame: Frame) -> None:
    exchange = connection.text
    if pdu.transfer_tag == NO_TAG:
        exchange.asked, exchange.answer = b"", b""  # 11.10.4: a new exchange
    exchange.asked += bytes(frame.data)
    if len(exchange.asked) > text.TEXT_MAX or not frame.intact:
        exchange.asked = b""
        connection.reject(frame, Reason.PROTOCOL_ERROR if frame.intact else Reason.DATA_DIGEST_ERROR)
        return
    if pdu.flags & CONTINUE:
        _respond(connection, pdu, b"", 0)
        return
    if not exchange.answer:
        asked, exchange.asked = exchange.asked, b""
        try:
            pairs = text.parse(asked)
        except TextError:
            connection.reject(frame, Reason.PROTOCOL_ERROR)
            return
        exchange.answer = text.render(_answers(connection, pairs))
    _send_some(connection, pdu)


def _send_some(connection: Connection, pdu: Text) -> None:
    """As much of the answer as one PDU takes; the initiator asks for the rest (11.11.2)."""
    exchange, limit = connection.text, connection.parameters.send_segment
    piece, exchange.answer = exchange.answer[:limit], exchange.answer[limit:]
    _respond(connection, pdu, piece, CONTINUE if exchange.answer else FINAL)


def _respond(connection: Connection, pdu: Text, data: bytes, flags: int) -> None:
    tag = NO_TAG if flags & FINAL else TRANSFER_TAG
    connection.send(
        TextResponse(Opcode.TEXT_RESPONSE, flags, len(data), NO_LUN, pdu.tag, tag, *connection.numbers()),
        data,
    )


def _answers(connection: Connection, pairs: Pairs) -> list[tuple[str, str]]:
    wanted = pairs.pop("SendTargets", None)
    answers = [] if wanted is None else _targets(connection, wanted)
    later = {key: pairs.pop(key) for key in [*pairs] if key in text.RULES and key not in AT_ANY_TIME}
    answers += [(key, "Reject") for key in later]  # 7: settled by the login
    return answers + text.negotiate(connection.parameters, connection.portal.policy.offer, pairs)


def _targets(connection: Connection, wanted: str) -> list[tuple[str, str]]:
    """Appendix C: All only in a discovery session, a name, or nothing for the session's own target."""
    server, own = connection.portal.server, connection.session.target
    if wanted == "All" and own is not None:
        return [("SendTargets", "Reject")]
    if wanted not in ("All", "", server.target.name) or (not wanted and own is None):
        return []
    return [
        ("TargetName", server.target.name),
        *(("TargetAddress", address) for address in server.addresses(connection.local_host)),
    ]
