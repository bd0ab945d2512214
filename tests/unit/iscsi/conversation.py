"""Conversations with a target's connection: an initiator's bytes in; events, and the target's PDUs, out."""

from __future__ import annotations

from itertools import count

from tcmu_runner.iscsi import text
from tcmu_runner.iscsi.framing import Framer, Sender
from tcmu_runner.iscsi.login import Policy
from tcmu_runner.iscsi.outbound import Outbound
from tcmu_runner.iscsi.pdu import Pdu, decode, encode
from tcmu_runner.iscsi.requests import DataOut, Login, ScsiCommand
from tcmu_runner.iscsi.target_connection import Event, LoginCompleted, TargetConnection
from tcmu_runner.iscsi.target_session import TargetSession

TARGET = "iqn.a:disk"
ISID = b"\0\2\x3d\0\0\1"
TO_FULL_FEATURE = 0x87  # T, from the operational stage (1) to full feature phase (3): 11.12
FIRST_CMD_SN = 7
TSIH = 5


class Conversation:
    """One connection. What the initiator sends has the digests of the login, as the target's answers have."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.unsent: set[Outbound] = set()
        self.target = TargetConnection(policy or Policy({TARGET}), bytes, self.unsent)
        self.cmd_sn = count(FIRST_CMD_SN)
        self._sender, self._framer = Sender(), Framer(1 << 24)

    # Bytes and PDUs

    def feed(self, data: bytes) -> Event | None:
        """The first event that follows from bytes of the initiator."""
        while data:
            space = self.target.space()
            part, data = data[: len(space)], data[len(space) :]
            space[: len(part)] = part
            self.target.received(len(part))
        return self.target.next_event()

    def say(self, pdu: Pdu, data: bytes = b"", ahs: bytes = b"") -> Event | None:
        """The first event that follows from a PDU; its `lengths` are set."""
        self._sender.put(encode(pdu._replace(lengths=len(ahs) // 4 << 24 | len(data))) + ahs, data)
        return self.feed(self._sender.take())

    def heard(self) -> list[tuple[Pdu, bytes]]:
        """What the target sends: PDUs and their data."""
        sent, found = self.target.data_to_send(), []
        while True:
            space = self._framer.space()
            part, sent = sent[: len(space)], sent[len(space) :]
            space[: len(part)] = part
            self._framer.received(len(part))
            while (frame := self._framer.next()) is not None:
                assert frame.intact
                found.append((decode(frame.header), bytes(frame.data)))
            if not sent:
                return found

    def hear(self) -> tuple[Pdu, bytes]:
        """The one PDU that the target sends."""
        (found,) = self.heard()
        return found

    # An initiator that logs in and sends commands

    def login_request(
        self, pairs: text.Pairs, flags: int = TO_FULL_FEATURE, *, tsih: int = 0, cid: int = 0
    ) -> Event | None:
        request = Login(0x43, flags, 0, 0, 0, ISID, tsih, 99, cid, FIRST_CMD_SN, 1)
        return self.say(request, text.render(pairs.items()))

    def login(
        self, session: TargetSession | None = None, *, cid: int = 0, discovery: bool = False, **keys: str
    ) -> TargetSession:
        """Into full feature phase, of a new session or of `session`."""
        names = {"InitiatorName": "iqn.b:me"}
        names |= {"SessionType": "Discovery"} if discovery else {"TargetName": TARGET}
        tsih = 0 if session is None else session.tsih
        event = self.login_request(names | keys, tsih=tsih, cid=cid)
        assert isinstance(event, LoginCompleted)
        if session is None:
            session = TargetSession(TSIH, event.phase.parameters, discovery=discovery)
            session.begin(event.request.cmd_sn)
        self.target.enter(session)
        self.heard()
        parameters = self.target.parameters
        self._sender.header_digest = self._framer.header_digest = parameters.header_digest
        self._sender.data_digest = self._framer.data_digest = parameters.data_digest
        return session

    def command(
        self, tag: int, cdb: bytes, flags: int, expected: int = 0, data: bytes = b"", ahs: bytes = b""
    ) -> Event | None:
        """flags: FINAL, READ, WRITE."""
        request = ScsiCommand(
            0x01, flags, 0, bytes(8), tag, expected, next(self.cmd_sn), 0, cdb[:16].ljust(16, b"\0")
        )
        return self.say(request, data, ahs)

    def data_out(
        self, tag: int, transfer_tag: int, offset: int, data: bytes, number: int = 0, flags: int = 0x80
    ) -> Event | None:
        return self.say(DataOut(0x05, flags, 0, bytes(8), tag, transfer_tag, 0, number, offset), data)
