"""Text requests: SendTargets, and what may still be negotiated (RFC 7143, 11.10, appendix C)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.keys import Moment, Stage, negotiate, note
from tcmu_runner.iscsi.pdu import CONTINUE, FINAL, NO_LUN, NO_TAG, Opcode
from tcmu_runner.iscsi.requests import Text
from tcmu_runner.iscsi.responses import Reason, TextResponse
from tcmu_runner.iscsi.text import Pairs, TextError

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.iscsi.framing import Frame

TRANSFER_TAG = 1  # one exchange at a time
NAME_TYPES = ("iqn.", "naa.", "eui.")  # how every iSCSI name begins (4.2.7.3)


class TextExchange:
    """A sequence of text requests, known by its Initiator Task Tag. asked: text that the next request goes on
    with. answer: what is still to be sent. said: its keys so far."""

    def __init__(self, tag: int = NO_TAG) -> None:
        self.tag = tag
        self.asked = b""
        self.answer = b""
        self.said: Pairs = {}


def text_request(connection: Connection, pdu: Text, frame: Frame) -> None:
    if pdu.transfer_tag == NO_TAG:
        connection.text = TextExchange(pdu.tag)  # 11.10.4: a new exchange
    elif (pdu.transfer_tag, pdu.tag) != (TRANSFER_TAG, connection.text.tag):
        connection.reject(frame, Reason.INVALID_FIELD)
        return
    try:
        _go_on(connection, pdu, bytes(frame.data))
    except TextError:
        connection.text = TextExchange()
        connection.reject(frame, Reason.PROTOCOL_ERROR)


def _go_on(connection: Connection, pdu: Text, data: bytes) -> None:
    """One request of the sequence. Raises TextError."""
    exchange = connection.text
    exchange.asked += data
    if len(exchange.asked) > text.TEXT_MAX or (pdu.flags & CONTINUE and pdu.flags & FINAL):
        raise TextError
    if pdu.flags & CONTINUE:
        _respond(connection, pdu, b"", 0)
        return
    if not exchange.answer:
        pairs, exchange.asked = text.parse(exchange.asked), b""
        note(exchange.said, pairs)
        exchange.answer = text.render(_answers(connection, pairs))
    _send_some(connection, pdu)


def _send_some(connection: Connection, pdu: Text) -> None:
    """As much of the answer as one PDU takes; the initiator asks for the rest (11.11.2). We end no sequence
    that it goes on with (11.11.1)."""
    exchange, limit = connection.text, connection.parameters.send_segment
    piece, exchange.answer = exchange.answer[:limit], exchange.answer[limit:]
    _respond(connection, pdu, piece, CONTINUE if exchange.answer else pdu.flags & FINAL)


def _respond(connection: Connection, pdu: Text, data: bytes, flags: int) -> None:
    tag = TRANSFER_TAG
    if flags & FINAL:
        tag, connection.text = NO_TAG, TextExchange()
    connection.send(
        TextResponse(Opcode.TEXT_RESPONSE, flags, len(data), NO_LUN, pdu.tag, tag, *connection.numbers()),
        data,
    )


def _answers(connection: Connection, pairs: Pairs) -> list[tuple[str, str]]:
    wanted = pairs.pop("SendTargets", None)
    answers = [] if wanted is None else _targets(connection, wanted)
    at = Moment(Stage.FULL_FEATURE, discovery=connection.session.discovery)
    return answers + negotiate(connection.parameters, connection.portal.policy.offer, pairs, at)


def _targets(connection: Connection, wanted: str) -> list[tuple[str, str]]:
    """Appendix C: All only in a discovery session, a name, or nothing for the session's own target. Any other
    value is no question for targets, and an empty list would look like the answer to one."""
    server, own = connection.portal.server, connection.session.target
    is_name = wanted == server.target.name or wanted.startswith(NAME_TYPES)
    if wanted and not is_name and (wanted != "All" or own is not None):
        return [("SendTargets", "Reject")]
    if wanted not in ("All", "", server.target.name) or (not wanted and own is None):
        return []
    return [
        ("TargetName", server.target.name),
        *(("TargetAddress", address) for address in server.addresses(connection.local_host)),
    ]
