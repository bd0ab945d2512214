"""One connection: login phase, then the requests of full feature phase (RFC 7143, 7 and 11)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING

from tcmu_runner.embedded import commands, discovery, management
from tcmu_runner.embedded.keepalive import Silence, Verdict
from tcmu_runner.embedded.session import IMMEDIATE_MAX, LATER, NOW, Session
from tcmu_runner.embedded.stream import Stream
from tcmu_runner.iscsi.framing import Frame
from tcmu_runner.iscsi.keys import of_connection
from tcmu_runner.iscsi.login import LoginError, LoginPhase, Reply
from tcmu_runner.iscsi.pdu import FINAL, IMMEDIATE, NO_LUN, NO_TAG, OPCODE, Opcode, Pdu, decode
from tcmu_runner.iscsi.requests import (
    CLOSE_CONNECTION,
    CLOSE_SESSION,
    DataOut,
    Login,
    Logout,
    NopOut,
    ScsiCommand,
    Snack,
    TaskManagement,
    Text,
)
from tcmu_runner.iscsi.responses import (
    CID_NOT_FOUND,
    LOGGED_OUT,
    RECOVERY_NOT_SUPPORTED,
    AsyncEvent,
    AsyncMessage,
    LoginResponse,
    LogoutResponse,
    NopIn,
    Reason,
    Reject,
)
from tcmu_runner.iscsi.text import Parameters
from tcmu_runner.ring.layout import TmrType

if TYPE_CHECKING:
    from tcmu_runner.embedded.portal import Portal
    from tcmu_runner.embedded.task import Task

NUMBERED = (ScsiCommand, NopOut, TaskManagement, Text, Logout)  # requests that carry a CmdSN
LOGIN_SECONDS = 30.0
LOGIN_REQUESTS_MAX = 64
PROMISED_MAX = 64 << 20

log = logging.getLogger(__name__)


class Connection(Stream):
    """A connection to `portal`. Its session is known from the end of the login on."""

    def __init__(self, portal: Portal) -> None:
        super().__init__(portal.server.unsent)
        self.portal = portal
        self.cid = 0
        self.stat_sn = 0
        self.parameters = Parameters()
        self._promised = 0  # bytes of Data-In of the tasks on rings, and of answers that were not flushed ...
        self._ended = 0  # ... these
        self._backlog: deque[Task] = deque()
        self.text = discovery.TextExchange()
        self.session: Session  # from the end of the login on
        self._session: Session | None = None  # the same
        self._login: LoginPhase | None = LoginPhase(portal.policy, secrets.token_bytes)
        self._login_requests = 0
        self._login_timer: asyncio.TimerHandle | None = None
        self._logged_out = False
        self._silence = Silence()
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.portal.connections.add(self)
        self._login_timer = asyncio.get_running_loop().call_later(LOGIN_SECONDS, self._login_too_slow)

    def _login_too_slow(self) -> None:
        log.info("%s: no login within %d seconds", self.peer, LOGIN_SECONDS)
        self.close()

    # Numbers that every response carries

    def next_stat_sn(self) -> int:
        """The StatSN of a response that carries one."""
        number = self.stat_sn
        self.stat_sn = number + 1 & 0xFFFFFFFF
        return number

    def numbers(self) -> tuple[int, int, int]:
        """StatSN, ExpCmdSN, MaxCmdSN of a response with a status."""
        session = self.session
        return self.next_stat_sn(), session.exp_cmd_sn, session.max_cmd_sn

    # What comes in

    def receive(self, frame: Frame) -> None:
        if self._login is not None:
            self._receive_login(self._login, frame)
            return
        pdu = decode(frame.header)
        if isinstance(pdu, NUMBERED):
            self._receive_numbered(pdu, frame)
        elif isinstance(pdu, DataOut):
            commands.data_out(self, pdu, frame)
        elif isinstance(pdu, Snack):
            self.reject(frame, Reason.SNACK_REJECT)  # 11.16: error recovery level 0 has none
        else:
            self.reject(frame, Reason.PROTOCOL_ERROR)

    def _receive_numbered(
        self, pdu: ScsiCommand | NopOut | TaskManagement | Text | Logout, frame: Frame
    ) -> None:
        session = self.session
        if not pdu.opcode & IMMEDIATE:
            turn = session.turn(pdu.cmd_sn)
            if turn is NOW:
                self.execute(pdu, frame)
            elif turn is LATER:
                session.hold(self, pdu, frame, pdu.cmd_sn)
        else:
            if session.immediate >= IMMEDIATE_MAX:
                self.reject(frame, Reason.TOO_MANY_IMMEDIATE)
                return
            session.immediate += 1
            self.execute(pdu, frame)
        if session.holds_back:
            for connection, held, held_frame in session.released():
                connection.execute(held, held_frame)

    def execute(self, pdu: Pdu, frame: Frame) -> None:
        """A request whose turn it is."""
        discovery_only = self.session.target is None
        if not frame.intact and not isinstance(pdu, ScsiCommand):
            self.session.answered(immediate=bool(frame.header[0] & IMMEDIATE))
            self.reject(frame, Reason.DATA_DIGEST_ERROR)  # 7.8
        elif isinstance(pdu, ScsiCommand) and not discovery_only:
            commands.command(self, pdu, frame)
        elif isinstance(pdu, TaskManagement) and not discovery_only:
            management.request(self, pdu)
        else:
            self.session.answered(immediate=bool(frame.header[0] & IMMEDIATE))
            self._execute_at_once(pdu, frame)

    def _execute_at_once(self, pdu: Pdu, frame: Frame) -> None:
        """What is over when it has been looked at."""
        if isinstance(pdu, ScsiCommand | TaskManagement):
            self.reject(frame, Reason.PROTOCOL_ERROR)  # 4.3: not in a discovery session
        elif isinstance(pdu, NopOut):
            self._nop(pdu, frame)
        elif isinstance(pdu, Text):
            discovery.text_request(self, pdu, frame)
        elif isinstance(pdu, Logout):
            self._logout(pdu)

    def batch_done(self) -> None:
        self.portal.server.run()

    # Tasks on their way to a unit

    def may_start(self, task: Task) -> bool:
        """Whether a task may go to its unit now. Else it is kept until the initiator has read more of what
        was sent, so that one who does not read costs no more memory than PROMISED_MAX."""
        wanted = task.data_in_expected
        if self.paused or self._backlog or (self._promised and self._promised + wanted > PROMISED_MAX):
            self._backlog.append(task)
            return False
        self._promised += wanted
        return True

    def started_ended(self, task: Task) -> None:
        """A task that was on its unit's ring is over; its room is free once its answer is on its way."""
        self._ended += task.data_in_expected
        self._unsent.add(self)

    def flush(self) -> None:
        super().flush()
        self._promised, self._ended = self._promised - self._ended, 0
        self._start_backlog()

    def forget_backlog(self, task: Task) -> None:
        if task in self._backlog:
            self._backlog.remove(task)

    def _start_backlog(self) -> None:
        while self._backlog and not self.paused:
            wanted = self._backlog[0].data_in_expected
            if self._promised and self._promised + wanted > PROMISED_MAX:
                return
            self._promised += wanted
            commands.submit(self._backlog.popleft())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._start_backlog()
        self.portal.server.run()

    def malformed(self, error: Exception) -> None:
        """7.6: where the stream makes no sense any more there is nothing to recover."""
        log.info("%s: closed, it sent what is no iSCSI: %s", self.peer, error)
        self.close()

    def reject(self, frame: Frame, reason: Reason) -> None:
        """11.17: the initiator gets its header back."""
        self.send(
            Reject(Opcode.REJECT, FINAL, reason, len(frame.header), NO_TAG, *self.numbers(), 0), frame.header
        )

    # Login

    def _receive_login(self, phase: LoginPhase, frame: Frame) -> None:
        pdu = decode(frame.header) if frame.header[0] & OPCODE == Opcode.LOGIN else None
        self._login_requests += 1
        if not isinstance(pdu, Login) or self._login_requests > LOGIN_REQUESTS_MAX:
            log.info("%s: closed, it did not log in", self.peer)
            self.close()
            return
        if self._login_requests == 1:
            self.stat_sn = pdu.exp_stat_sn
        reply = phase.receive(pdu, bytes(frame.data))
        if reply.complete and not reply.status:
            try:
                self._enter_session(phase, pdu)
            except LoginError as error:
                reply = Reply(reply.flags & 0x0F, status=error.status, reason=str(error))
        self._answer_login(pdu, reply)

    def _answer_login(self, pdu: Login, reply: Reply) -> None:
        session = self._session
        tsih = session.tsih if session is not None else pdu.tsih
        exp_cmd_sn, max_cmd_sn = pdu.cmd_sn, pdu.cmd_sn
        if session is not None:
            exp_cmd_sn, max_cmd_sn = session.exp_cmd_sn, session.max_cmd_sn
        self.send(
            LoginResponse(
                Opcode.LOGIN_RESPONSE, reply.flags, 0, 0, len(reply.text), pdu.isid, tsih, pdu.tag,
                self.next_stat_sn(), exp_cmd_sn, max_cmd_sn, reply.status,
            ),
            reply.text,
        )  # fmt: skip
        if reply.status:
            log.warning("%s: login refused: %s", self.peer, reply.reason)
            self.close()
        elif session is not None:
            self._begin_full_feature(session)

    def _enter_session(self, phase: LoginPhase, pdu: Login) -> None:
        self.session = self._session = self.portal.admit(phase, pdu)
        self.cid = pdu.cid
        self.session.connections[self.cid] = self

    def _begin_full_feature(self, session: Session) -> None:
        assert self._login is not None
        self.parameters = parameters = of_connection(session.parameters, self._login.parameters)
        self._login = None
        if self._login_timer is not None:
            self._login_timer.cancel()
        self.framer.header_digest = self.sender.header_digest = parameters.header_digest
        self.framer.data_digest = self.sender.data_digest = parameters.data_digest
        kind = "discovery" if session.discovery else "session"
        log.info("%s: %s %d of %s", self.peer, kind, session.tsih, session.initiator)
        if not session.discovery:
            self._look_again()

    # Whether the initiator is still there

    def _look_again(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(self.portal.server.look_seconds, self._looked)

    def _looked(self) -> None:
        self.look()
        if not self.closing:
            self._look_again()

    def look(self) -> None:
        """Pings an initiator that was silent for a while; one that does not answer loses its session."""
        verdict = self._silence.look(alive=self.signs_of_life())
        session = self.session
        if verdict is Verdict.PING:
            numbers = self.stat_sn, session.exp_cmd_sn, session.max_cmd_sn
            tag = session.transfer_tag()
            self.send(NopIn(Opcode.NOP_IN, FINAL, 0, NO_LUN, NO_TAG, tag, *numbers))
            self.portal.server.run()
        elif verdict is Verdict.GIVE_UP:
            who = session.tsih, session.initiator
            log.warning("%s: no answer to a ping: session %d of %s ended", self.peer, *who)
            self.abort()

    # Small requests

    def _nop(self, pdu: NopOut, frame: Frame) -> None:
        """A ping comes back with its data (11.18); without a tag it is an answer, or only tells ExpStatSN."""
        if pdu.tag == NO_TAG:
            return
        data = bytes(frame.data[: self.parameters.send_segment])
        self.send(NopIn(Opcode.NOP_IN, FINAL, len(data), NO_LUN, pdu.tag, NO_TAG, *self.numbers()), data)

    def _logout(self, pdu: Logout) -> None:
        reason = pdu.flags & 0x7F
        session = self.session
        if reason == CLOSE_SESSION:
            leaving, answer = [*session.connections.values()], LOGGED_OUT
        elif reason == CLOSE_CONNECTION:
            leaving = [session.connections[pdu.cid]] if pdu.cid in session.connections else []
            answer = LOGGED_OUT if leaving else CID_NOT_FOUND
        else:
            leaving, answer = [], RECOVERY_NOT_SUPPORTED
        self.send(LogoutResponse(Opcode.LOGOUT_RESPONSE, FINAL, answer, 0, pdu.tag, *self.numbers(), 0, 0))
        for connection in leaving:
            connection.log_out()

    def log_out(self) -> None:
        """Leaves in good order: its tasks are aborted, and other connections of the session stay."""
        self._logged_out = True
        self.close()

    def replace(self) -> None:
        """Another connection takes this one's place in the session (6.3.4)."""
        self._logged_out = True
        self._abort_tasks()
        self.close()

    # The end

    def drop(self) -> None:
        """We go: the initiator need not try again to keep this session (11.9)."""
        if self._login is None:
            session = self.session
            self.send(
                AsyncMessage(
                    Opcode.ASYNC_MESSAGE, FINAL, 0, NO_LUN, NO_TAG, self.next_stat_sn(), session.exp_cmd_sn,
                    session.max_cmd_sn, AsyncEvent.SESSION_DROPPED, 0, 0, 0, 0,
                )
            )  # fmt: skip
        self.close()

    def _abort_tasks(self) -> None:
        """Ends the tasks whose allegiance is to this connection, and forgets what it held back."""
        session = self.session
        session.forget(self)
        own = [task for task in session.tasks.values() if task.connection is self]
        management.abort(own, TmrType.ABORT_TASK_SET, management.nothing)

    def lost(self) -> None:
        for timer in (self._login_timer, self._next_look):
            if timer is not None:
                timer.cancel()
        self.portal.connections.discard(self)
        session = self._session
        if session is None:
            return
        if session.connections.get(self.cid) is self:
            del session.connections[self.cid]
        self._abort_tasks()
        if session.target is not None and not (self._logged_out and session.connections):
            session.target.end(session)  # 7.1.4.1: at level 0, a lost connection is a lost session
        self.portal.server.run()
