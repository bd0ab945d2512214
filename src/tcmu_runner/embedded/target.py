"""A target: its name, its LUNs, and who is logged in to it."""

from __future__ import annotations

from itertools import count

from tcmu_runner.embedded.local import LocalLun
from tcmu_runner.embedded.management import abort, nothing, preempt
from tcmu_runner.embedded.services import Ports, lend
from tcmu_runner.embedded.session import Session
from tcmu_runner.iscsi.addressing import lun_address, lun_number
from tcmu_runner.iscsi.login import LoginError, LoginPhase, Status
from tcmu_runner.iscsi.requests import Login
from tcmu_runner.ring.layout import TmrType
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.vpd import designators
from tcmu_runner.scsi.xcopy import Designator, Peer

SESSIONS_MAX = 256


class Target:
    """luns: by their number, 0 to 16383. portal_groups: of its portals, each a target port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.luns: dict[int, LocalLun] = {}
        self.portal_groups: list[int] = []
        self.sessions: dict[int, Session] = {}
        self._handles = count(1)

    def add(self, number: int, lun: LocalLun) -> None:
        """A further LUN; before the first session."""
        self.luns[number] = lun
        ports = Ports(lambda: self.portal_groups)
        lend(lun.unit, lambda: sorted(self.luns), ports, self._peer, lambda nexus: preempt(self, nexus))

    def _peer(self, nexus: Nexus, name: Designator) -> Peer | None:
        """The LUN of that name: all are reached by whoever has a session."""
        for session in self.sessions.values():
            units = session.units.values()
            if any(own is nexus for _, own in units):
                return next(
                    (Peer(lun.unit, own) for lun, own in units if name in designators(lun.unit)), None
                )
        return None

    def lun(self, address: bytes) -> LocalLun | None:
        """The unit that the eight bytes of a LUN field name (SAM-5 4.7)."""
        return self.luns.get(lun_number(address))

    def admit(self, phase: LoginPhase, pdu: Login, portal_group: int) -> Session:
        """The session a completed login belongs to, a new one or, by its TSIH, an existing one.

        Raises LoginError.
        """
        if pdu.tsih:
            return self._existing(phase, pdu, portal_group)
        for session in [*self.sessions.values()]:
            same_port = (session.initiator, session.isid) == (phase.initiator, pdu.isid)
            if same_port and session.portal_group == portal_group:
                self.end(session)  # 6.3.5: session reinstatement
        if len(self.sessions) >= SESSIONS_MAX:
            raise LoginError(Status.OUT_OF_RESOURCES, f"{SESSIONS_MAX} sessions already")
        tsih = next(handle & 0xFFFF for handle in self._handles if self._is_free(handle & 0xFFFF))
        session = Session(phase.initiator, pdu.isid, tsih, self, phase.parameters, portal_group=portal_group)
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
            raise LoginError(Status.NO_SUCH_SESSION, f"no session {pdu.tsih} of {phase.initiator}")
        if session.portal_group != portal_group:
            raise LoginError(Status.CANNOT_INCLUDE_IN_SESSION, "the session is at another portal group")
        if (old := session.connections.get(pdu.cid)) is not None:
            old.replace()
        elif len(session.connections) >= session.parameters.max_connections:
            raise LoginError(Status.TOO_MANY_CONNECTIONS, f"{len(session.connections)} connections already")
        return session

    def end(self, session: Session) -> None:
        """The nexus is lost: its connections are closed and its tasks aborted."""
        if self.sessions.pop(session.tsih, None) is None:
            return
        for connection in [*session.connections.values()]:
            connection.close()
        abort([*session.tasks.values()], TmrType.ABORT_TASK_SET, nothing)
        for lun, nexus in session.units.values():
            lun.unit.disconnect(nexus)

    def run(self) -> None:
        """Serves what was submitted to the LUNs."""
        for lun in self.luns.values():
            lun.run()
