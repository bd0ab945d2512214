"""Moving a command's data: gathering Data-Out as a target may ask for it, and cutting up Data-In.

Sequences, bursts and their limits: RFC 7143, 4.2.5.2, 11.7, 11.8, 13.10 to 13.14.
"""

from __future__ import annotations

from collections.abc import Iterator

from tcmu_runner.iscsi.pdu import FINAL, NO_TAG
from tcmu_runner.iscsi.requests import DataOut
from tcmu_runner.iscsi.text import Parameters
from tcmu_runner.scsi.sense import Sense, SenseKey

MAX_TRANSFER = 16 << 20  # bytes of one command
# 11.4.7.2: what a target answers to data it cannot use
UNEXPECTED_DATA = Sense(SenseKey.ABORTED_COMMAND, 0x0C, 0x0C)
INCORRECT_AMOUNT = Sense(SenseKey.ABORTED_COMMAND, 0x0C, 0x0D)
DIGEST_ERROR = Sense(SenseKey.ABORTED_COMMAND, 0x47, 0x05)
# A command that writes, to read: INVALID FIELD IN COMMAND INFORMATION UNIT, as LIO says of lengths.
WRONG_DIRECTION = Sense(SenseKey.ILLEGAL_REQUEST, 0x0E, 0x03)
NO_ROOM = Sense(SenseKey.NO_SENSE, 0x00, 0x00)  # not sent: its status is TASK SET FULL


class Gathering:
    """The Data-Out of one command, in order: immediate, unsolicited, then what each R2T asks for.

    length: what is wanted in all. After a mistake of the initiator `failure` says which; the sequence under
    way is still waited for, so that the answer does not overtake data on its way here.
    """

    def __init__(self, length: int, parameters: Parameters) -> None:
        self.length = length
        self._parameters = parameters
        self.failure: Sense | None = None
        self.data: bytearray | memoryview = memoryview(b"")
        self._received = 0
        self._open = False  # whether a sequence is under way
        self._end = 0  # of that sequence
        self.transfer_tag = NO_TAG  # of that sequence
        self._data_sn = 0
        self.r2t_sn = 0

    @property
    def complete(self) -> bool:
        """Nothing more will come: all is here, or `failure` is set."""
        return not self._open and (self._received >= self.length or self.failure is not None)

    def begin(self, immediate: memoryview, *, final: bool) -> None:
        """With the command itself; `immediate` is only borrowed if it is all there is."""
        parameters = self._parameters
        allowed = min(parameters.first_burst, self.length)
        if immediate and not parameters.immediate_data:
            self.failure = UNEXPECTED_DATA
        elif len(immediate) > allowed:
            self.failure = INCORRECT_AMOUNT
        elif len(immediate) == self.length:
            self.data, self._received = immediate, self.length
        elif self.failure is None:
            self.data = bytearray(self.length)
            self._store(immediate)
        if not final:
            self._open, self._end = True, allowed
            if parameters.initial_r2t:
                self.failure = UNEXPECTED_DATA

    def _store(self, data: memoryview) -> None:
        self.data[self._received : self._received + len(data)] = data
        self._received += len(data)

    def accept(self, pdu: DataOut, data: memoryview, *, intact: bool) -> None:
        """One Data-Out PDU of this command."""
        if self.failure is None:
            self.failure = self._mistake(pdu, data, intact=intact)
            if self.failure is None:
                self._store(data)
        self._data_sn += 1
        if pdu.flags & FINAL:
            self._open = False
            if self.transfer_tag != NO_TAG and self._received != self._end:
                self.failure = self.failure or INCORRECT_AMOUNT

    def _mistake(self, pdu: DataOut, data: memoryview, *, intact: bool) -> Sense | None:
        if not intact or pdu.data_sn != self._data_sn:
            return DIGEST_ERROR  # 7.8: a PDU that is not there is as one that came broken
        if not self._open or pdu.transfer_tag != self.transfer_tag:
            return UNEXPECTED_DATA
        if pdu.offset != self._received or self._received + len(data) > self._end:
            return INCORRECT_AMOUNT
        return None

    def ask(self, transfer_tag: int) -> tuple[int, int] | None:
        """Opens the next sequence: the offset and length for an R2T. None: nothing is to be asked for now."""
        if self._open or self.complete:
            return None
        self._open, self.transfer_tag, self._data_sn = True, transfer_tag, 0
        self._end = min(self._received + self._parameters.max_burst, self.length)
        self.r2t_sn += 1
        return self._received, self._end - self._received


def segments(length: int, parameters: Parameters) -> Iterator[tuple[int, int, bool]]:
    """How `length` bytes of Data-In are cut: offset, end, and whether a sequence ends there (11.7.1)."""
    offset, burst_end = 0, parameters.max_burst
    while offset < length:
        end = min(offset + parameters.send_segment, burst_end, length)
        ends_sequence = end in (burst_end, length)
        yield offset, end, ends_sequence
        if end == burst_end:
            burst_end += parameters.max_burst
        offset = end
