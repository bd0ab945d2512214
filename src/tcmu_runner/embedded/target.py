"""A target: its name, its LUNs, the sessions of initiators, and the streams of their connections."""

from __future__ import annotations

from itertools import count

from tcmu_runner.embedded.aborting import abort
from tcmu_runner.embedded.endpoint import PortalAddress
from tcmu_runner.embedded.local import LocalLun
from tcmu_runner.embedded.services import Ports, lend
from tcmu_runner.embedded.session import Session
from tcmu_runner.embedded.stream import Stream
from tcmu_runner.embedded.task import end, start, unit_of
from tcmu_runner.iscsi.addressing import lun_address, lun_number
from tcmu_runner.iscsi.login import LoginError, LoginPhase, LoginStatus
from tcmu_runner.iscsi.outbound import Outbound
from tcmu_runner.iscsi.pending import Disposition, PendingCommand
from tcmu_runner.iscsi.requests import Login
from tcmu_runner.ring.layout import TmrType
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.vpd import designators
from tcmu_runner.scsi.xcopy import Designator, Peer

SESSIONS_MAX = 256
DISCOVERY_HANDLE = 0xFFFF


class Target:
    """luns: by their number, 0 to 16383. portals: its addresses, each a target port.

    streams: of connections that are there. unsent: connections that want their stream flushed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.luns: dict[int, LocalLun] = {}
        self.portals: list[PortalAddress] = []
        self.sessions: dict[int, Session] = {}
        self.streams: dict[Outbound, Stream] = {}
        self.unsent: set[Outbound] = set()
        self._handles = count(1)

    def add(self, number: int, lun: LocalLun) -> None:
        """A further LUN; before the first session."""
        self.luns[number] = lun
        ports = Ports(lambda: [portal.group for portal in self.portals])
        lend(lun.unit, lambda: sorted(self.luns), ports, self._peer, self._preempt)

    def _peer(self, nexus: Nexus, name: Designator) -> Peer | None:
        """The LUN of that name: an initiator with a session reaches all of them."""
        for session in self.sessions.values():
            units = session.units.values()
            if any(own is nexus for _, own in units):
                return next(
                    (Peer(lun.unit, own) for lun, own in units if name in designators(lun.unit)), None
                )
        return None

    def _preempt(self, nexus: Nexus) -> None:
        """Ends the commands of a nexus that lost its registration (SPC-5 5.13.11.5)."""
        commands = [
            command
            for session in self.sessions.values()
            for command in session.commands.values()
            if unit_of(command)[1] is nexus
        ]
        for command in commands:
            command.disposition = Disposition.TASK_ABORTED
        abort(commands, TmrType.LUN_RESET_PRO)

    def lun(self, address: bytes) -> LocalLun | None:
        """The unit that the eight bytes of a LUN field name (SAM-5 4.7)."""
        return self.luns.get(lun_number(address))

    def commands(self, lun: LocalLun) -> list[PendingCommand]:
        """All commands to a unit, of every session."""
        return [
            command
            for session in self.sessions.values()
            for command in session.commands.values()
            if unit_of(command)[0] is lun
        ]

    # Sessions

    def admit(self, phase: LoginPhase, pdu: Login, portal_group: int) -> Session:
        """The session a completed login belongs to, a new one or, by its TSIH, an existing one.

        Raises LoginError.
        """
        if phase.discovery:
            return _discovery(phase, pdu, portal_group)
        if pdu.tsih:
            return self._existing(phase, pdu, portal_group)
        for session in [*self.sessions.values()]:
            same_port = (session.initiator, session.isid) == (phase.initiator, pdu.isid)
            if same_port and session.portal_group == portal_group:
                self.end(session)  # 6.3.5: session reinstatement
        if len(self.sessions) >= SESSIONS_MAX:
            raise LoginError(LoginStatus.OUT_OF_RESOURCES, f"{SESSIONS_MAX} sessions already")
        tsih = next(handle & 0xFFFF for handle in self._handles if self._is_free(handle & 0xFFFF))
        session = Session(phase.initiator, pdu.isid, tsih, phase.parameters, portal_group=portal_group)
        session.begin(pdu.cmd_sn)
        self.sessions[tsih] = session
        for number, lun in self.luns.items():
            nexus = Nexus(session.transport_id, portal_group)
            session.units[lun_address(number)] = lun, nexus
            lun.unit.connect(nexus)
        return session

    def _is_free(self, handle: int) -> bool:
        return handle != 0 and handle not in self.sessions

    def _existing(self, phase: LoginPhase, pdu: Login, portal_group: int) -> Session:
        session = self.sessions.get(pdu.tsih)
        if session is None or (session.initiator, session.isid) != (phase.initiator, pdu.isid):
            raise LoginError(LoginStatus.NO_SUCH_SESSION, f"no session {pdu.tsih} of {phase.initiator}")
        if session.portal_group != portal_group:
            raise LoginError(LoginStatus.CANNOT_INCLUDE_IN_SESSION, "the session is at another portal group")
        if (old := session.connections.get(pdu.cid)) is not None:  # 6.3.4: connection reinstatement
            old.logged_out = True
            _abort_of(session, old)
            old.close()
        elif len(session.connections) >= session.parameters.max_connections:
            raise LoginError(
                LoginStatus.TOO_MANY_CONNECTIONS, f"{len(session.connections)} connections already"
            )
        return session

    def lost(self, session: Session, connection: Outbound) -> None:
        """The transport of a connection has ended."""
        if session.connections.get(connection.cid) is connection:
            del session.connections[connection.cid]
        _abort_of(session, connection)
        if not session.discovery and not (connection.logged_out and session.connections):
            self.end(session)  # 7.1.4.1: at level 0, a lost connection is a lost session

    def end(self, session: Session) -> None:
        """The nexus is lost: its connections are closed and its commands aborted."""
        if self.sessions.pop(session.tsih, None) is None:
            return
        for connection in [*session.connections.values()]:
            connection.close()
        abort([*session.commands.values()], TmrType.ABORT_TASK_SET)
        for lun, nexus in session.units.values():
            lun.unit.disconnect(nexus)

    def run(self) -> None:
        """Serves what was submitted to the LUNs, and sends what there is to send. On the loop's thread."""
        while True:
            ended = [task for lun in self.luns.values() for task in lun.run()]
            for task in ended:
                end(task)
            if not ended and not self.unsent:
                return
            while self.unsent:
                connection = self.unsent.pop()
                if (stream := self.streams.get(connection)) is not None:
                    stream.flush()
                while (command := connection.next_kept()) is not None:
                    start(command)


def _discovery(phase: LoginPhase, pdu: Login, portal_group: int) -> Session:
    if pdu.tsih:
        raise LoginError(LoginStatus.NO_SUCH_SESSION, "a discovery session has one connection")
    session = Session(
        phase.initiator, pdu.isid, DISCOVERY_HANDLE, phase.parameters, portal_group=portal_group,
        discovery=True,
    )  # fmt: skip
    session.begin(pdu.cmd_sn)
    return session


def _abort_of(session: Session, connection: Outbound) -> None:
    """Ends the commands with allegiance to a connection, and forgets its requests that were held."""
    session.forget(connection)
    own = [command for command in session.commands.values() if command.connection is connection]
    abort(own, TmrType.ABORT_TASK_SET)
