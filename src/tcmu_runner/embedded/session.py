"""A session: one initiator port at one target port, the order of its commands, and its tasks."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING

from tcmu_runner.iscsi.addressing import lun_address, lun_number

if TYPE_CHECKING:
    from tcmu_runner.embedded.connection import Connection
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.embedded.target import Target
    from tcmu_runner.embedded.task import Task
    from tcmu_runner.iscsi.framing import Frame
    from tcmu_runner.iscsi.pdu import Pdu
    from tcmu_runner.iscsi.text import Parameters
    from tcmu_runner.scsi.command import Nexus

QUEUE_DEPTH = 128  # commands an initiator may have under way
IMMEDIATE_MAX = 32  # ... and beyond these, how many immediate ones
GATHERED_MAX = 256 << 20  # bytes of Data-Out of all of them; one command may always have its own
HALF = 1 << 31
MASK = (1 << 32) - 1


Held = tuple["Connection", "Pdu", "Frame"]


class Turn(Enum):
    """What is to be done with a numbered request."""

    NOW = auto()
    LATER = auto()  # one before it is not here yet
    NEVER = auto()  # outside the window, or here before


NOW, LATER, NEVER = Turn  # looked up for each command; through the class it costs more than all of `turn`


class Session:
    """initiator, isid: the initiator port. tsih: our handle for it. portal_group: with the target's name, the
    target port. discovery: there is no target, only SendTargets."""

    def __init__(
        self, initiator: str, isid: bytes, tsih: int, target: Target | None, parameters: Parameters, *,
        portal_group: int,
    ) -> None:  # fmt: skip
        self.initiator = initiator
        self.isid = isid
        self.tsih = tsih
        self.target = target
        self.parameters = parameters
        self.portal_group = portal_group
        self.connections: dict[int, Connection] = {}
        self.tasks: dict[int, Task] = {}
        self.units: dict[bytes, tuple[LocalLun, Nexus]] = {}  # by LUN field
        self.exp_cmd_sn = 0
        self.max_cmd_sn = QUEUE_DEPTH - 1
        self.immediate = 0  # immediate commands under way
        self._gathered = 0  # bytes of Data-Out of the tasks
        self._held: dict[int, Held | None] = {}  # None: aborted before it came
        self._next_transfer_tag = 0

    @property
    def discovery(self) -> bool:
        return self.target is None

    @property
    def transport_id(self) -> bytes:
        """The initiator port's TransportID: iSCSI name and ISID (SPC-5 7.6.4.6)."""
        name = f"{self.initiator},i,0x{self.isid.hex()}".encode() + b"\0"
        name = name.ljust(max(20, len(name) + (-len(name) & 3)), b"\0")
        return b"\x45\0" + len(name).to_bytes(2, "big") + name

    def unit(self, address: bytes) -> tuple[LocalLun, Nexus] | tuple[None, None]:
        """The unit that a LUN field names, in whatever form, and our nexus to it, if there is one."""
        number = lun_number(address)
        return (None, None) if number < 0 else self.units.get(lun_address(number), (None, None))

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
        return NEVER if outside or cmd_sn in self._held else LATER

    def hold(self, connection: Connection, pdu: Pdu, frame: Frame, cmd_sn: int) -> None:
        """Keeps a request until those before it are here."""
        copied = frame._replace(data=memoryview(bytes(frame.data)))
        self._held[cmd_sn] = (connection, pdu, copied)

    def released(self) -> Iterable[Held]:
        """Requests whose turn has come."""
        while self.exp_cmd_sn in self._held:
            held = self._held.pop(self.exp_cmd_sn)
            self.exp_cmd_sn = self.exp_cmd_sn + 1 & MASK
            if held is not None:
                yield held

    @property
    def holds_back(self) -> bool:
        return bool(self._held)

    def skip(self, cmd_sn: int) -> bool:
        """An aborted command that never came counts as received (11.6.1). False: it came, or cannot come."""
        ahead = cmd_sn - self.exp_cmd_sn & MASK
        if ahead > (self.max_cmd_sn - self.exp_cmd_sn & MASK) or cmd_sn in self._held:
            return False
        self._held[cmd_sn] = None
        self.answered(immediate=False)
        return True

    def answered(self, *, immediate: bool) -> None:
        """A request is over: there is room for another."""
        if immediate:
            self.immediate -= 1
        else:
            self.max_cmd_sn = self.max_cmd_sn + 1 & MASK

    def forget(self, connection: Connection) -> None:
        """A connection is gone: drops what it held back."""
        self._held = {
            sn: held for sn, held in self._held.items() if held is None or held[0] is not connection
        }

    def gather(self, length: int) -> bool:
        """A task is about to take memory for so much Data-Out, until `gathered`. False: with that of the
        others it is too much. MaxCmdSN counts commands, not bytes, and never goes back (4.2.2.1): a status
        says it."""
        before, self._gathered = self._gathered, self._gathered + length
        return not before or before + length <= GATHERED_MAX

    def gathered(self, length: int) -> None:
        """The task is over."""
        self._gathered -= length

    def transfer_tag(self) -> int:
        """A new Target Transfer Tag; never 0xffffffff, which means none."""
        self._next_transfer_tag = (self._next_transfer_tag + 1) % MASK
        return self._next_transfer_tag
