"""Text requests of full feature phase: SendTargets, and the keys that may still be negotiated (11.10)."""

from __future__ import annotations

from typing import NamedTuple

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.framing import Frame
from tcmu_runner.iscsi.keys import Moment, Stage, negotiate, note
from tcmu_runner.iscsi.outbound import Outbound
from tcmu_runner.iscsi.pdu import CONTINUE, FINAL, NO_LUN, NO_TAG, Opcode
from tcmu_runner.iscsi.requests import Text
from tcmu_runner.iscsi.responses import Reason, TextResponse
from tcmu_runner.iscsi.text import Pairs, TextError, TextExchange

TRANSFER_TAG = 1  # one exchange at a time
Answers = list[tuple[str, str]]


class TargetsRequested(NamedTuple):
    """An initiator asks for targets: `wanted` is the value of SendTargets. negotiated: the answers to the
    other keys of the request."""

    connection: Outbound
    request: Text
    wanted: str
    negotiated: Answers

    def answer(self, targets: Answers) -> None:
        """targets: TargetName and TargetAddress of each, or why there are none."""
        _answer(self.connection, self.request, targets + self.negotiated)


def text_request(connection: Outbound, pdu: Text, frame: Frame) -> TargetsRequested | None:
    if pdu.transfer_tag == NO_TAG:
        connection.text = TextExchange(pdu.tag)  # 11.10.4: a new exchange
    elif (pdu.transfer_tag, pdu.tag) != (TRANSFER_TAG, connection.text.tag):
        connection.reject(frame, Reason.INVALID_FIELD)
        return None
    try:
        return _go_on(connection, pdu, bytes(frame.data))
    except TextError:
        connection.text = TextExchange()
        connection.reject(frame, Reason.PROTOCOL_ERROR)
        return None


def _go_on(connection: Outbound, pdu: Text, data: bytes) -> TargetsRequested | None:
    """One request of the sequence. Raises TextError."""
    exchange = connection.text
    exchange.asked += data
    if len(exchange.asked) > text.TEXT_MAX or (pdu.flags & CONTINUE and pdu.flags & FINAL):
        raise TextError
    if pdu.flags & CONTINUE:
        _respond(connection, pdu, b"", 0)
    elif exchange.answer:
        _send_some(connection, pdu)
    else:
        pairs, exchange.asked = text.parse(exchange.asked), b""
        note(exchange.said, pairs)
        return _negotiate(connection, pdu, pairs)
    return None


def _negotiate(connection: Outbound, pdu: Text, pairs: Pairs) -> TargetsRequested | None:
    wanted = pairs.pop("SendTargets", None)
    at = Moment(Stage.FULL_FEATURE, discovery=connection.session.discovery)
    negotiated = negotiate(connection.parameters, connection.offer, pairs, at)
    if wanted is not None:
        return TargetsRequested(connection, pdu, wanted, negotiated)
    _answer(connection, pdu, negotiated)
    return None


def _answer(connection: Outbound, pdu: Text, answers: Answers) -> None:
    connection.text.answer = text.render(answers)
    _send_some(connection, pdu)


def _send_some(connection: Outbound, pdu: Text) -> None:
    """As much of the answer as one PDU takes; the initiator asks for the rest (11.11.2). We end no sequence
    that it goes on with (11.11.1)."""
    exchange, limit = connection.text, connection.parameters.send_segment
    piece, exchange.answer = exchange.answer[:limit], exchange.answer[limit:]
    _respond(connection, pdu, piece, CONTINUE if exchange.answer else pdu.flags & FINAL)


def _respond(connection: Outbound, pdu: Text, data: bytes, flags: int) -> None:
    tag = TRANSFER_TAG
    if flags & FINAL:
        tag, connection.text = NO_TAG, TextExchange()
    connection.send(
        TextResponse(Opcode.TEXT_RESPONSE, flags, len(data), NO_LUN, pdu.tag, tag, *connection.numbers()),
        data,
    )
