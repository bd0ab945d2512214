"""The other side: a small initiator that sends exactly what its caller asks for.

For tests of targets and of handlers; blocking, one connection, no retries. The rest follows RFC 7143:
`command` numbers commands, sends immediate data and answers R2T within the negotiated limits.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from tcmu_runner.iscsi import chap, text
from tcmu_runner.iscsi.addressing import lun_address
from tcmu_runner.iscsi.framing import Frame, Framer, Sender
from tcmu_runner.iscsi.pdu import FINAL, IMMEDIATE, NO_TAG, Opcode, Pdu, decode, encode, padding
from tcmu_runner.iscsi.requests import READ, WRITE, DataOut, Login, Logout, NopOut, ScsiCommand
from tcmu_runner.iscsi.responses import R2T, STATUS, DataIn, LoginResponse, NopIn, ScsiResponse

TIME_OUT = 20.0
SEGMENT = 262144
OPERATIONAL_TO_FULL, SECURITY = 0x87, 0x00


class LoginRefusedError(Exception):
    """status: class and detail of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"login refused with status {status:#06x}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. flags: those of the PDU with the status, OVERFLOW and UNDERFLOW among them.
    pdus: how many Data-In PDUs there were."""

    status: int
    sense: bytes
    data: bytes
    flags: int
    residual: int
    pdus: int


class Initiator:
    """A connection to host:port. `login`, then `command`; or `send` and `receive` for single PDUs.

    tsih, cid: for a further connection of a session. time_out: seconds that the target may be silent.
    """

    def __init__(
        self, host: str, port: int, name: str = "iqn.2024-01.org.tcmu-runner:initiator", *,
        isid: bytes = b"\x80\0\0\0\0\1", tsih: int = 0, cid: int = 0, time_out: float = TIME_OUT,
    ) -> None:  # fmt: skip
        self.name = name
        self.isid, self.tsih, self.cid = isid, tsih, cid
        self.cmd_sn = 1
        self.exp_stat_sn = 1
        self.tag = 0
        self.agreed: text.Pairs = {}
        self._framer, self._sender = Framer(SEGMENT), Sender()
        self._socket = socket.create_connection((host, port), time_out)

    # Single PDUs

    def send(self, pdu: Pdu, data: bytes = b"", ahs: bytes = b"") -> None:
        """Sends a PDU; its `lengths` are set to those of `data` and `ahs`."""
        pdu = pdu._replace(lengths=len(ahs) // 4 << 24 | len(data))
        self._sender.put(encode(pdu) + ahs, data)
        self.send_bytes(self._sender.take())

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive_frame(self) -> tuple[Pdu, bytes]:
        """The next PDU and its data. EOFError when the target has closed the connection."""
        while (frame := self._framer.next()) is None:
            count = self._socket.recv_into(self._framer.space())
            if not count:
                raise EOFError("the target has closed the connection")
            self._framer.received(count)
        return self._note(frame)

    def _note(self, frame: Frame) -> tuple[Pdu, bytes]:
        assert frame.intact, "wrong data digest from the target"
        pdu, data = decode(frame.header), bytes(frame.data)
        if isinstance(pdu, LoginResponse | ScsiResponse):
            self.exp_stat_sn = pdu.stat_sn + 1 & 0xFFFFFFFF
        return pdu, data

    def next_tag(self) -> int:
        self.tag += 1
        return self.tag

    def next_cmd_sn(self) -> int:
        number = self.cmd_sn
        self.cmd_sn = number + 1 & 0xFFFFFFFF
        return number

    # Login

    def login(self, target: str | None, user: str = "", secret: str = "", **keys: str) -> text.Pairs:
        """Into full feature phase; what the target answered. target None: a discovery session.

        Raises LoginRefusedError.
        """
        who = {"InitiatorName": self.name}
        who |= {"SessionType": "Discovery"} if target is None else {"TargetName": target}
        if secret:
            self._prove(who, user, secret)
            who = {}
        self.agreed |= self.login_request(OPERATIONAL_TO_FULL, {**who, **keys})
        self._framer.header_digest = self._sender.header_digest = self.agreed.get("HeaderDigest") == "CRC32C"
        self._framer.data_digest = self._sender.data_digest = self.agreed.get("DataDigest") == "CRC32C"
        return self.agreed

    def _prove(self, who: text.Pairs, user: str, secret: str) -> None:
        """CHAP with MD5."""
        self.login_request(SECURITY, {**who, "AuthMethod": "CHAP"})
        offer = self.login_request(SECURITY, {"CHAP_A": "5"})
        proof = chap.response("5", int(offer["CHAP_I"]), secret, chap.read_binary(offer["CHAP_C"]))
        self.login_request(0x81, {"CHAP_N": user, "CHAP_R": "0x" + proof.hex()})

    def login_request(self, flags: int, pairs: text.Pairs) -> text.Pairs:
        """One exchange. Raises LoginRefusedError."""
        self.send(
            Login(
                Opcode.LOGIN | IMMEDIATE, flags, 0, 0, 0, self.isid, self.tsih, 0, self.cid, self.cmd_sn,
                self.exp_stat_sn,
            ),
            text.render(pairs.items()),
        )  # fmt: skip
        pdu, data = self.receive_frame()
        assert isinstance(pdu, LoginResponse), f"not a login response: {pdu}"
        if pdu.status:
            raise LoginRefusedError(pdu.status)
        if flags == OPERATIONAL_TO_FULL:
            self.tsih = pdu.tsih
        return text.parse(data)

    # Commands

    def command(
        self, cdb: bytes, data_out: bytes = b"", data_in_length: int = 0, *, lun: int = 0,
        expected: int | None = None,
    ) -> Result:  # fmt: skip
        """Executes a command. expected: the Expected Data Transfer Length; None: the length of the data."""
        flags = FINAL | (WRITE if data_out else 0) | (READ if data_in_length else 0)
        length = len(data_out) or data_in_length if expected is None else expected
        first = len(data_out) if self._immediate_data else 0
        first = min(first, self._number("FirstBurstLength", 65536), self._number("MaxBurstLength", SEGMENT))
        tag, address = self.next_tag(), lun_address(lun)
        self.send(
            ScsiCommand(
                Opcode.SCSI_COMMAND, flags, 0, address, tag, length, self.next_cmd_sn(), self.exp_stat_sn,
                cdb[:16].ljust(16, b"\0"),
            ),
            data_out[:first],
            extended_cdb(cdb),
        )  # fmt: skip
        return self.result(tag, address, data_out)

    @property
    def _immediate_data(self) -> bool:
        return self.agreed.get("ImmediateData", "Yes") == "Yes"

    def _number(self, key: str, default: int) -> int:
        return int(self.agreed.get(key, default))

    def result(self, tag: int, address: bytes = bytes(8), data_out: bytes = b"") -> Result:
        """Waits for the end of a command, and sends what the target asks for."""
        found, pdus = bytearray(), 0
        while True:
            pdu, data = self.receive_frame()
            if isinstance(pdu, R2T) and pdu.tag == tag:
                self._send_data(pdu, address, data_out)
            elif isinstance(pdu, DataIn) and pdu.tag == tag:
                assert (pdu.offset, pdu.data_sn) == (len(found), pdus), "Data-In out of order"
                found += data
                pdus += 1
                if pdu.flags & STATUS:
                    return Result(pdu.status, b"", bytes(found), pdu.flags, pdu.residual, pdus)
            elif isinstance(pdu, ScsiResponse) and pdu.tag == tag:
                return Result(pdu.status, data[2:], bytes(found), pdu.flags, pdu.residual, pdus)
            elif isinstance(pdu, NopIn) and pdu.transfer_tag != NO_TAG:
                self._answer_ping(pdu)
            else:
                raise AssertionError(f"not of command {tag}: {pdu}")

    def _answer_ping(self, ping: NopIn) -> None:
        """11.18: an immediate NOP-Out with the target's tag."""
        self.send(
            NopOut(
                Opcode.NOP_OUT | IMMEDIATE, FINAL, 0, ping.lun, NO_TAG, ping.transfer_tag, self.cmd_sn,
                self.exp_stat_sn,
            )
        )  # fmt: skip

    def _send_data(self, asked: R2T, address: bytes, data_out: bytes) -> None:
        """A sequence of Data-Out in two PDUs, where it can be halved."""
        half = asked.length // 2
        cuts = [0, half, asked.length] if half else [0, asked.length]
        for number, (start, end) in enumerate(pairwise(cuts)):
            offset = asked.offset + start
            self.send(
                DataOut(
                    Opcode.DATA_OUT, FINAL if end == asked.length else 0, 0, address, asked.tag,
                    asked.transfer_tag, self.exp_stat_sn, number, offset,
                ),
                data_out[offset : asked.offset + end],
            )  # fmt: skip

    def logout(self, reason: int = 0) -> None:
        """Asks to end session (0) or connection (1), and waits until the target has closed it."""
        self.send(
            Logout(
                Opcode.LOGOUT,
                FINAL | reason,
                0,
                self.next_tag(),
                self.cid,
                self.next_cmd_sn(),
                self.exp_stat_sn,
            )
        )
        try:
            while True:
                self.receive_frame()
        except EOFError:
            self.close()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def extended_cdb(cdb: bytes) -> bytes:
    """The additional header segment of a CDB longer than 16 bytes (11.2.2.3)."""
    if len(cdb) <= 16:
        return b""
    rest = cdb[16:]
    return (len(rest) + 1).to_bytes(2, "big") + b"\x01\0" + rest + bytes(padding(len(rest)))
