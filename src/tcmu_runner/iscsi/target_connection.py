"""A connection at the target, as a machine: bytes in, events out; answers in, bytes out (RFC 7143, 7, 11).

    connection.space(); connection.received(count)           what the transport has read
    while event := connection.next_event(): ...              what is to be done
    connection.data_to_send()                                what the transport is to write

Answers: `enter` or `refuse` to LoginCompleted, `scsi_response.answer` to a PendingCommand, `answer` of the
event itself to ManagementRequested and TargetsRequested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tcmu_runner.iscsi.framing import Frame, Framer, FramingError
from tcmu_runner.iscsi.inbound import Requested, data_out, execute
from tcmu_runner.iscsi.keys import of_connection
from tcmu_runner.iscsi.login import LoginError, LoginPhase, Policy, Reply
from tcmu_runner.iscsi.outbound import Outbound
from tcmu_runner.iscsi.pdu import (
    FINAL,
    IMMEDIATE,
    NO_LUN,
    NO_TAG,
    OPCODE,
    Opcode,
    UnknownOpcodeError,
    decode,
)
from tcmu_runner.iscsi.requests import (
    DataOut,
    Login,
    Logout,
    NopOut,
    ScsiCommand,
    Snack,
    TaskManagementRequest,
    Text,
)
from tcmu_runner.iscsi.responses import AsyncEvent, AsyncMessage, LoginResponse, NopIn, Reason
from tcmu_runner.iscsi.target_session import IMMEDIATE_MAX, LATER, NOW, TargetSession

RECEIVE_SEGMENT = 262144
LOGIN_REQUESTS_MAX = 64

NUMBERED = (ScsiCommand, NopOut, TaskManagementRequest, Text, Logout)  # requests that carry a CmdSN


class LoginCompleted(NamedTuple):
    """An initiator is authenticated, and parameters are negotiated: `enter` its session, or `refuse` it."""

    phase: LoginPhase
    request: Login


class LoginRefused(NamedTuple):
    """The connection is closed."""

    reason: str


class ProtocolViolated(NamedTuple):
    """7.6: where the stream makes no sense there is nothing to recover. The connection is closed."""

    reason: str


Event = Requested | LoginCompleted | LoginRefused | ProtocolViolated


class TargetConnection(Outbound):
    """policy: which logins are accepted. random: gives so many bytes that nobody can guess."""

    def __init__(self, policy: Policy, random: Callable[[int], bytes], unsent: set[Outbound]) -> None:
        super().__init__(policy.offer, unsent)
        self.framer = Framer(RECEIVE_SEGMENT)
        self._login: LoginPhase | None = LoginPhase(policy, random)
        self._login_requests = 0
        self._completed: tuple[Login, Reply] | None = None  # a login that is to be answered

    # What comes in

    def space(self) -> memoryview:
        """Where to receive to; then call `received`. Ends what events and frames have lent."""
        return self.framer.space()

    def received(self, count: int) -> None:
        self.framer.received(count)

    def next_event(self) -> Event | None:
        """None: more has to be received. Each event is to be answered, or carried out, before the next."""
        while self._completed is None:
            login = self._login
            if login is None and self.session.held and (held := self.session.release()) is not None:
                event: Event | None = execute(*held)
            elif self.closed:
                return None
            else:
                try:
                    frame = self.framer.next()
                    if frame is None:
                        return None
                    event = self._receive(frame) if login is None else self._receive_login(login, frame)
                except (FramingError, UnknownOpcodeError) as error:
                    return self._violated(f"it sent what is no iSCSI: {error}")
            if event is not None:
                return event
        return None

    def _violated(self, reason: str) -> ProtocolViolated:
        self.close()
        return ProtocolViolated(reason)

    def _receive(self, frame: Frame) -> Event | None:
        pdu = decode(frame.header)
        if isinstance(pdu, NUMBERED):
            session = self.session
            if pdu.opcode & IMMEDIATE:
                if session.immediate < IMMEDIATE_MAX:
                    session.immediate += 1
                    return execute(self, pdu, frame)
                self.reject(frame, Reason.TOO_MANY_IMMEDIATE)
            elif (turn := session.turn(pdu.cmd_sn)) is NOW:
                return execute(self, pdu, frame)
            elif turn is LATER:
                session.hold(self, pdu, frame)
        elif isinstance(pdu, DataOut):
            return data_out(self, pdu, frame)
        else:  # 11.16: error recovery level 0 has no SNACK
            self.reject(frame, Reason.SNACK_REJECT if isinstance(pdu, Snack) else Reason.PROTOCOL_ERROR)
        return None

    # Login

    def _receive_login(self, phase: LoginPhase, frame: Frame) -> Event | None:
        pdu = decode(frame.header) if frame.header[0] & OPCODE == Opcode.LOGIN else None
        self._login_requests += 1
        if not isinstance(pdu, Login) or self._login_requests > LOGIN_REQUESTS_MAX:
            return self._violated("it did not log in")
        if self._login_requests == 1:
            self.stat_sn = pdu.exp_stat_sn
        reply = phase.receive(pdu, bytes(frame.data))
        if reply.status:
            return self._refuse(pdu, reply)
        if reply.complete:
            self._completed = pdu, reply
            return LoginCompleted(phase, pdu)
        self._answer_login(pdu, reply, pdu.tsih, (pdu.cmd_sn, pdu.cmd_sn))
        return None

    def _answer_login(self, pdu: Login, reply: Reply, tsih: int, window: tuple[int, int]) -> None:
        self.send(
            LoginResponse(
                Opcode.LOGIN_RESPONSE, reply.flags, 0, 0, len(reply.text), pdu.isid, tsih, pdu.tag,
                self.next_stat_sn(), *window, reply.status,
            ),
            reply.text,
        )  # fmt: skip

    def _refuse(self, pdu: Login, reply: Reply) -> LoginRefused:
        self._answer_login(pdu, reply, pdu.tsih, (pdu.cmd_sn, pdu.cmd_sn))
        self.close()
        return LoginRefused(reply.reason)

    def refuse(self, error: LoginError) -> LoginRefused:
        """There is no session for a completed login."""
        assert self._completed is not None
        (pdu, reply), self._completed = self._completed, None
        return self._refuse(pdu, Reply(reply.flags & 0x0F, status=error.status, reason=str(error)))

    def enter(self, session: TargetSession) -> None:
        """The connection is one of `session`, and in full feature phase."""
        assert self._completed is not None
        assert self._login is not None
        (pdu, reply), self._completed = self._completed, None
        self.session, self.cid = session, pdu.cid
        session.connections[self.cid] = self
        self._answer_login(pdu, reply, session.tsih, (session.exp_cmd_sn, session.max_cmd_sn))
        self.parameters = parameters = of_connection(session.parameters, self._login.parameters)
        self._login = None
        self.framer.header_digest = self.sender.header_digest = parameters.header_digest
        self.framer.data_digest = self.sender.data_digest = parameters.data_digest

    # What the target says by itself

    def ping(self) -> None:
        """A NOP-In that the initiator is to answer (11.19); it uses up no StatSN."""
        session = self.session
        numbers = self.stat_sn, session.exp_cmd_sn, session.max_cmd_sn
        self.send(NopIn(Opcode.NOP_IN, FINAL, 0, NO_LUN, NO_TAG, session.transfer_tag(), *numbers))

    def drop(self) -> None:
        """The target goes: the initiator need not try again to keep this session (11.9)."""
        if self._login is None:
            self.send(
                AsyncMessage(
                    Opcode.ASYNC_MESSAGE, FINAL, 0, NO_LUN, NO_TAG, *self.numbers(),
                    AsyncEvent.SESSION_DROPPED, 0, 0, 0, 0,
                )
            )  # fmt: skip
        self.close()
