"""Status and sense: how a command ends (SAM-5 5.3.1, SPC-5 4.4)."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self


class Status(IntEnum):
    """SAM-5 table 33."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """SPC-5 table 51."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense data before its encoding.

    information: the INFORMATION field (an LBA or a byte offset, by the command).
    specific: the three SENSE KEY SPECIFIC bytes, SKSV included.
    """

    key: int
    asc: int
    ascq: int
    information: int | None = None
    specific: bytes | None = None
    deferred: bool = False

    def with_information(self, value: int) -> Self:
        return replace(self, information=value)

    def at(self, byte: int, bit: int | None = None, *, in_cdb: bool = True) -> Self:
        """Points at the wrong field (SPC-5 4.4.2.4.2): a byte of the CDB, or of the parameter list."""
        flags = 0x80 | (0x40 if in_cdb else 0) | (0 if bit is None else 0x08 | bit)
        return replace(self, specific=bytes((flags, byte >> 8 & 0xFF, byte & 0xFF)))

    def with_progress(self, done: int, total: int) -> Self:
        """Progress of a long operation in 1/65536 (SPC-5 4.4.2.4.4)."""
        part = min(0xFFFF, done * 0x10000 // max(total, 1))
        return replace(self, specific=b"\x80" + part.to_bytes(2, "big"))

    def encode(self, *, descriptor: bool = False) -> bytes:
        """Fixed format (SPC-5 4.4.3, 18 bytes) or descriptor format (4.4.2)."""
        return self._descriptor_format() if descriptor else self._fixed_format()

    def _fixed_format(self) -> bytes:
        fits = self.information is not None and self.information < 1 << 32
        data = bytearray(18)
        data[0] = (0xF0 if fits else 0x70) | self.deferred
        data[2] = self.key
        if fits and self.information is not None:
            data[3:7] = self.information.to_bytes(4, "big")
        data[7] = 10
        data[12:14] = bytes((self.asc, self.ascq))
        if self.specific is not None:
            data[15:18] = self.specific
        return bytes(data)

    def _descriptor_format(self) -> bytes:
        descriptors = b""
        if self.information is not None:
            descriptors += b"\x00\x0a\x80\x00" + self.information.to_bytes(8, "big")
        if self.specific is not None:
            descriptors += b"\x02\x06\x00\x00" + self.specific + b"\x00"
        head = bytes((0x72 | self.deferred, self.key, self.asc, self.ascq, 0, 0, 0, len(descriptors)))
        return head + descriptors


class ScsiError(Exception):
    """Ends a command in CHECK CONDITION with this sense. Handlers may raise it."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(sense)
        self.sense = sense


class ScsiStatusError(Exception):
    """Ends a command in a status without sense, for example BUSY."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


# SPC-5 annex F.2, in the order of their codes
NO_SENSE = Sense(SenseKey.NO_SENSE, 0x00, 0x00)
OPERATION_IN_PROGRESS = Sense(SenseKey.ILLEGAL_REQUEST, 0x00, 0x16)
COPY_ABORTED = Sense(SenseKey.COPY_ABORTED, 0x00, 0x00)
INITIALIZING_COMMAND_REQUIRED = Sense(SenseKey.NOT_READY, 0x04, 0x02)
FORMAT_IN_PROGRESS = Sense(SenseKey.NOT_READY, 0x04, 0x04)
IN_STANDBY = Sense(SenseKey.NOT_READY, 0x04, 0x0B)  # target port in standby state
SANITIZE_IN_PROGRESS = Sense(SenseKey.NOT_READY, 0x04, 0x1B)
COMMUNICATION_FAILURE = Sense(SenseKey.NOT_READY, 0x08, 0x00)
WRITE_ERROR = Sense(SenseKey.MEDIUM_ERROR, 0x0C, 0x00)
COPY_TARGET_NOT_REACHABLE = Sense(SenseKey.COPY_ABORTED, 0x0D, 0x02)
INCORRECT_COPY_TARGET_TYPE = Sense(SenseKey.COPY_ABORTED, 0x0D, 0x03)
UNRECOVERED_READ_ERROR = Sense(SenseKey.MEDIUM_ERROR, 0x11, 0x00)
PARAMETER_LIST_LENGTH_ERROR = Sense(SenseKey.ILLEGAL_REQUEST, 0x1A, 0x00)
MISCOMPARE = Sense(SenseKey.MISCOMPARE, 0x1D, 0x00)
INVALID_OPCODE = Sense(SenseKey.ILLEGAL_REQUEST, 0x20, 0x00)
LBA_OUT_OF_RANGE = Sense(SenseKey.ILLEGAL_REQUEST, 0x21, 0x00)
INVALID_FIELD_IN_CDB = Sense(SenseKey.ILLEGAL_REQUEST, 0x24, 0x00)
LUN_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, 0x25, 0x00)
INVALID_FIELD_IN_PARAMETER_LIST = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x00)
INVALID_RELEASE = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x04)
TOO_MANY_CSCD_DESCRIPTORS = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x06)
UNSUPPORTED_CSCD_DESCRIPTOR = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x07)
TOO_MANY_SEGMENT_DESCRIPTORS = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x08)
UNSUPPORTED_SEGMENT_DESCRIPTOR = Sense(SenseKey.ILLEGAL_REQUEST, 0x26, 0x09)
WRITE_PROTECTED = Sense(SenseKey.DATA_PROTECT, 0x27, 0x00)
SPACE_ALLOCATION_FAILED = Sense(SenseKey.DATA_PROTECT, 0x27, 0x07)
MEDIUM_MAY_HAVE_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x28, 0x00)
LUN_RESET = Sense(SenseKey.UNIT_ATTENTION, 0x29, 0x03)
DEVICE_INTERNAL_RESET = Sense(SenseKey.UNIT_ATTENTION, 0x29, 0x04)
NEXUS_LOSS = Sense(SenseKey.UNIT_ATTENTION, 0x29, 0x07)
MODE_PARAMETERS_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x01)
RESERVATIONS_PREEMPTED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x03)
RESERVATIONS_RELEASED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x04)
REGISTRATIONS_PREEMPTED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x05)
ACCESS_STATE_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x06)
CAPACITY_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x2A, 0x09)
FORMAT_FAILED = Sense(SenseKey.MEDIUM_ERROR, 0x31, 0x01)
SANITIZE_FAILED = Sense(SenseKey.MEDIUM_ERROR, 0x31, 0x03)
THRESHOLD_REACHED = Sense(SenseKey.UNIT_ATTENTION, 0x38, 0x07)
INQUIRY_DATA_CHANGED = Sense(SenseKey.UNIT_ATTENTION, 0x3F, 0x03)
SAVING_NOT_SUPPORTED = Sense(SenseKey.ILLEGAL_REQUEST, 0x39, 0x00)
MEDIUM_NOT_PRESENT = Sense(SenseKey.NOT_READY, 0x3A, 0x00)
INTERNAL_TARGET_FAILURE = Sense(SenseKey.HARDWARE_ERROR, 0x44, 0x00)
SELF_TEST_FAILED = Sense(SenseKey.HARDWARE_ERROR, 0x3E, 0x03)
MEDIUM_REMOVAL_PREVENTED = Sense(SenseKey.ILLEGAL_REQUEST, 0x53, 0x02)
SET_TARGET_PORT_GROUPS_FAILED = Sense(SenseKey.HARDWARE_ERROR, 0x67, 0x0A)
