"""One connection on the loop: its machine says what is to be done, and this has target and units do it."""

from __future__ import annotations

import asyncio
import logging
import secrets

from tcmu_runner.embedded import discovery, management
from tcmu_runner.embedded.keepalive import Silence, Verdict
from tcmu_runner.embedded.session import Session
from tcmu_runner.embedded.stream import Stream
from tcmu_runner.embedded.target import Target
from tcmu_runner.embedded.task import start
from tcmu_runner.iscsi.inbound import ManagementRequested
from tcmu_runner.iscsi.login import LoginError, Policy
from tcmu_runner.iscsi.pending import PendingCommand
from tcmu_runner.iscsi.target_connection import (
    Event,
    LoginCompleted,
    LoginRefused,
    ProtocolViolated,
    TargetConnection,
)
from tcmu_runner.iscsi.text_exchange import TargetsRequested

LOGIN_SECONDS = 30.0

log = logging.getLogger(__name__)


class Connection(Stream):
    """All on the loop's thread."""

    def __init__(self, target: Target, policy: Policy, present: set[Connection], look_seconds: float) -> None:
        """present: where it is while its transport is there. look_seconds: from one look at whether the
        initiator is still there to the next."""
        super().__init__(TargetConnection(policy, secrets.token_bytes, target.unsent))
        self._target = target
        self._portal_group = policy.portal_group
        self._present = present
        self._look_seconds = look_seconds
        self._session: Session | None = None  # from the end of the login on
        self._silence = Silence()
        self._timer: asyncio.TimerHandle | None = None  # for the end of the login, then for the next look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._present.add(self)
        self._target.streams[self.machine] = self
        self._timer = asyncio.get_running_loop().call_later(LOGIN_SECONDS, self._login_too_slow)

    def _login_too_slow(self) -> None:
        log.info("%s: no login within %d seconds", self.peer, LOGIN_SECONDS)
        self.machine.close()
        self.flush()

    # What comes in

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = True
        machine = self.machine
        machine.received(nbytes)
        while (event := machine.next_event()) is not None:
            if type(event) is PendingCommand:
                start(event)
            else:
                self._take(event)
        self._target.run()

    def _take(self, event: Event) -> None:
        match event:
            case LoginCompleted():
                self._admit(event)
            case ManagementRequested():
                management.request(self._target, event)
            case TargetsRequested():
                event.answer(discovery.targets(self._target, event))
            case LoginRefused(reason):
                log.warning("%s: login refused: %s", self.peer, reason)
            case ProtocolViolated(reason):
                log.info("%s: closed, %s", self.peer, reason)

    def _admit(self, event: LoginCompleted) -> None:
        try:
            session = self._target.admit(event.phase, event.request, self._portal_group)
        except LoginError as error:
            self._take(self.machine.refuse(error))
            return
        self.machine.enter(session)
        self._session = session
        kind = "discovery" if session.discovery else "session"
        log.info("%s: %s %d of %s", self.peer, kind, session.tsih, session.initiator)
        if self._timer is not None:
            self._timer.cancel()
        if not session.discovery:
            self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._target.unsent.add(self.machine)
        self._target.run()

    # Whether the initiator is still there

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._looked)

    def _looked(self) -> None:
        self.look()
        if not self.machine.closed:
            self._look_again()

    def look(self) -> None:
        """Pings an initiator that was silent for a while; one that does not answer loses its session."""
        verdict = self._silence.look(alive=self.signs_of_life())
        if verdict is Verdict.PING:
            self.machine.ping()
            self._target.run()
        elif verdict is Verdict.GIVE_UP and self._session is not None:
            session = self._session.tsih, self._session.initiator
            log.warning("%s: no answer to a ping: session %d of %s ended", self.peer, *session)
            self.abort()

    # The end

    def drop(self) -> None:
        """The target goes."""
        self.machine.drop()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        self._present.discard(self)
        self._target.streams.pop(self.machine, None)
        if self._session is not None:
            self._target.lost(self._session, self.machine)
            self._target.run()
