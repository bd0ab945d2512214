"""The sending half of a target's connection: the numbers of its PDUs, their bytes, and how many may wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tcmu_runner.iscsi.framing import Frame, Sender
from tcmu_runner.iscsi.pdu import FINAL, NO_TAG, Opcode, Pdu, encode
from tcmu_runner.iscsi.responses import Reason, Reject
from tcmu_runner.iscsi.text import Offer, Parameters, TextExchange

if TYPE_CHECKING:
    from tcmu_runner.iscsi.pending import PendingCommand
    from tcmu_runner.iscsi.target_session import TargetSession

PROMISED_MAX = 64 << 20


class Outbound:
    """A connection as those see it that answer its requests; `session` is there from the end of the login on.

    paused: the initiator does not read what was sent. closed: nothing is received or sent any longer; close
    the transport once `data_to_send` is written. logged_out: it leaves in good order, and other connections
    of the session stay.
    """

    session: TargetSession

    def __init__(self, offer: Offer, unsent: set[Outbound]) -> None:
        """offer: our side of negotiations. unsent: where connections put themselves that have data_to_send,
        or a transport that is to be closed."""
        self.offer = offer
        self.cid = 0
        self.stat_sn = 0
        self.parameters = Parameters()
        self.text = TextExchange()
        self.paused = self.closed = self.logged_out = False
        self.sender = Sender()
        self._unsent = unsent
        self._promised = 0  # bytes of Data-In of the commands that were handed out, ...
        self.ended = 0  # ... and of those among them that are over since data was last sent
        self._kept_back: deque[PendingCommand] = deque()

    # Numbers that every response carries

    def next_stat_sn(self) -> int:
        """The StatSN of a response that carries one."""
        number = self.stat_sn
        self.stat_sn = number + 1 & 0xFFFFFFFF
        return number

    def numbers(self) -> tuple[int, int, int]:
        """StatSN, ExpCmdSN, MaxCmdSN of a response with a status."""
        session, number = self.session, self.stat_sn
        self.stat_sn = number + 1 & 0xFFFFFFFF
        return number, session.exp_cmd_sn, session.max_cmd_sn

    # What goes out

    def send(self, pdu: Pdu, data: bytes | memoryview = b"") -> None:
        """Queues a PDU; it goes out with the next `data_to_send`."""
        self.send_header(encode(pdu), data)

    def send_header(self, header: bytes, data: bytes | memoryview = b"") -> None:
        """As `send`, for a header that is packed."""
        if not self.closed:
            self._unsent.add(self)
            self.sender.put(header, data)

    def reject(self, frame: Frame, reason: Reason) -> None:
        """11.17: the initiator gets its header back."""
        self.send(
            Reject(Opcode.REJECT, FINAL, reason, len(frame.header), NO_TAG, *self.numbers(), 0), frame.header
        )

    def close(self) -> None:
        """Ends the connection when what was queued is sent."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Has the transport ask for `data_to_send`, though there may be none."""
        self._unsent.add(self)

    def data_to_send(self) -> bytes:
        """All that was queued. There is room for the Data-In of further commands then: see `next_kept`."""
        self._promised, self.ended = self._promised - self.ended, 0
        return self.sender.take()

    # Room for Data-In: an initiator that does not read costs no more memory than PROMISED_MAX

    def has_room(self, command: PendingCommand) -> bool:
        """Whether a command may be carried out now. Else it is kept until the initiator has read more."""
        wanted, promised = command.data_in_expected, self._promised
        if self.paused or self._kept_back or (promised and promised + wanted > PROMISED_MAX):
            self._kept_back.append(command)
            return False
        self._promised = promised + wanted
        command.promised = wanted
        return True

    def next_kept(self) -> PendingCommand | None:
        """A command that was kept, and may be carried out now: ask after each `data_to_send`."""
        kept = self._kept_back
        while kept and not self.paused and not self.closed:
            command = kept[0]
            wanted = command.data_in_expected
            if command.over:
                kept.popleft()
            elif self._promised and self._promised + wanted > PROMISED_MAX:
                return None
            else:
                self._promised += wanted
                command.promised = wanted
                return kept.popleft()
        return None
