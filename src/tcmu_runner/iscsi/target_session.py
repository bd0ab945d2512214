"""What the connections of a session share at the target: the order of its requests, and its commands."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcmu_runner.iscsi.framing import Frame
    from tcmu_runner.iscsi.outbound import Outbound
    from tcmu_runner.iscsi.pending import PendingCommand
    from tcmu_runner.iscsi.requests import NumberedRequest
    from tcmu_runner.iscsi.text import Parameters

QUEUE_DEPTH = 128  # commands an initiator may have under way
IMMEDIATE_MAX = 32  # ... and beyond these, how many immediate ones
GATHERED_MAX = 256 << 20  # bytes of Data-Out of all of them; one command may always have its own
HALF = 1 << 31
MASK = (1 << 32) - 1

Held = tuple["Outbound", "NumberedRequest", "Frame"]


class Turn(Enum):
    """What is to be done with a numbered request."""

    NOW = auto()
    LATER = auto()  # one before it is not here yet
    NEVER = auto()  # outside the window, or here before


NOW, LATER, NEVER = Turn  # looked up for each command; through the class it costs more than all of `turn`


class TargetSession:
    """tsih: the target's handle for the session. parameters: those that its leading login negotiated.
    discovery: it has no units, and may only ask for targets.

    connections: by CID. commands: by Initiator Task Tag, from their PDU to their answer. held: requests that
    came before their turn, by CmdSN; None for one that was aborted before it came.
    """

    def __init__(self, tsih: int, parameters: Parameters, *, discovery: bool = False) -> None:
        self.tsih = tsih
        self.parameters = parameters
        self.discovery = discovery
        self.connections: dict[int, Outbound] = {}
        self.commands: dict[int, PendingCommand] = {}
        self.held: dict[int, Held | None] = {}
        self.exp_cmd_sn = 0
        self.max_cmd_sn = QUEUE_DEPTH - 1
        self.immediate = 0  # immediate requests under way
        self._gathered = 0  # bytes of Data-Out of the commands
        self._next_transfer_tag = 0

    def begin(self, cmd_sn: int) -> None:
        """The leading login's CmdSN is the first (4.2.2.1); login requests are immediate and use none up."""
        self.exp_cmd_sn = cmd_sn
        self.max_cmd_sn = cmd_sn + QUEUE_DEPTH - 1 & MASK

    def turn(self, cmd_sn: int) -> Turn:
        """Whether a request that is not immediate is to be executed (4.2.2.1)."""
        ahead = cmd_sn - self.exp_cmd_sn & MASK
        if not ahead:
            self.exp_cmd_sn = cmd_sn + 1 & MASK
            return NOW
        outside = ahead >= HALF or ahead > (self.max_cmd_sn - self.exp_cmd_sn & MASK)
        return NEVER if outside or cmd_sn in self.held else LATER

    def hold(self, connection: Outbound, pdu: NumberedRequest, frame: Frame) -> None:
        """Keeps a request until those before it are here."""
        copied = frame._replace(data=memoryview(bytes(frame.data)))
        self.held[pdu.cmd_sn] = (connection, pdu, copied)

    def release(self) -> Held | None:
        """The next request, if it was held."""
        while self.exp_cmd_sn in self.held:
            held = self.held.pop(self.exp_cmd_sn)
            self.exp_cmd_sn = self.exp_cmd_sn + 1 & MASK
            if held is not None:
                return held
        return None

    def skip(self, cmd_sn: int) -> bool:
        """An aborted command that never came counts as received (11.6.1). False: it came, or cannot come."""
        ahead = cmd_sn - self.exp_cmd_sn & MASK
        if ahead > (self.max_cmd_sn - self.exp_cmd_sn & MASK) or cmd_sn in self.held:
            return False
        self.held[cmd_sn] = None
        self.answered(immediate=False)
        return True

    def answered(self, *, immediate: bool) -> None:
        """A request is over: there is room for another."""
        if immediate:
            self.immediate -= 1
        else:
            self.max_cmd_sn = self.max_cmd_sn + 1 & MASK

    def forget(self, connection: Outbound) -> None:
        """A connection is gone: drops the requests of it that were held."""
        self.held = {sn: held for sn, held in self.held.items() if held is None or held[0] is not connection}

    def gather(self, length: int) -> bool:
        """A command is about to take memory for so much Data-Out, until `gathered`. False: with that of the
        others it is too much. MaxCmdSN counts commands, not bytes, and never goes back (4.2.2.1): a status
        says it."""
        before, self._gathered = self._gathered, self._gathered + length
        return not before or before + length <= GATHERED_MAX

    def gathered(self, length: int) -> None:
        """The command is over."""
        self._gathered -= length

    def transfer_tag(self) -> int:
        """A new Target Transfer Tag; never 0xffffffff, which means none."""
        self._next_transfer_tag = (self._next_transfer_tag + 1) % MASK
        return self._next_transfer_tag
