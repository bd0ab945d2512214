"""Fields of a CDB: those that many commands share, and those that no command here evaluates.

CdbLayout states each position of LBA, number of blocks and length of parameter data once; the reader of the
field, its bits in the CDB usage data (SPC-4 6.35.3), and CDBs that we make ourselves are derived from it.

Of the fields that no command evaluates, some are refused and others ignored. A recipient need not check a
reserved bit (SPC-5, the definition of "reserved"), and bits that are reserved now once had a meaning or will
have one: Linux puts the LUN into byte 1 of the first INQUIRY, as SCSI-2 required. So bits that are named
nowhere here are ignored. A field is refused if a standard gives it a meaning that the unit does not support,
so that the command would do something else than the initiator asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, cast

Blocks = Callable[[bytes], tuple[int, int]]
Span = tuple[int, int]  # first byte, number of bytes
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class CdbLayout:
    """size: bytes of the CDB. lba, count: LOGICAL BLOCK ADDRESS and the number of blocks. lba_bits: how many
    low bits of the LBA field are used. zero_count: how many blocks a count of 0 means.

    length: ALLOCATION LENGTH or PARAMETER LIST LENGTH, in bytes (SPC-5 4.2.5.6, 4.2.5.5); a number if the
    standard fixes it and the CDB has no such field.
    """

    size: int
    lba: Span | None = None
    count: Span | None = None
    length: Span | int | None = None
    lba_bits: int = 64
    zero_count: int = 0

    @property
    def mask(self) -> int:
        """All bits of the fields, in a CDB read as one big-endian number."""
        lba, count, length = map(_ones, (self.lba, self.count, self.length))
        return self.filled(lba & (1 << self.lba_bits) - 1, count, length)

    def _shifted(self, value: int, span: Span) -> int:
        return value << 8 * (self.size - sum(span))

    def reader(self) -> Blocks | None:
        """Reads (LBA, number of blocks); None if a CDB lacks one. Called for every READ and WRITE, so it is
        the bare method of a Struct, without a function around it, unless the layout needs one."""
        if self.lba is None or self.count is None:
            return None
        if self.lba_bits < 8 * self.lba[1] or self.zero_count:
            return self._read
        (lba, lba_size), (count, count_size) = self.lba, self.count
        gaps = lba, count - lba - lba_size, self.size - count - count_size
        layout = ">{}x{lba}{}x{count}{}x".format(*gaps, lba=_FORMATS[lba_size], count=_FORMATS[count_size])
        return cast("Blocks", Struct(layout).unpack)

    def _read(self, cdb: bytes) -> tuple[int, int]:
        assert self.count is not None
        return self.address(cdb), _number(cdb, self.count) or self.zero_count

    def address(self, cdb: bytes) -> int:
        """The LBA."""
        assert self.lba is not None, "this layout has no LBA"
        return _number(cdb, self.lba) & (1 << self.lba_bits) - 1

    def data_length(self, cdb: bytes) -> int | None:
        """The value of `length` in this CDB; None if the layout has no such field."""
        return _number(cdb, self.length) if isinstance(self.length, tuple) else self.length

    def filled(self, lba: int, count: int, length: int) -> int:
        """A CDB's bits with these values in the fields; a missing field accepts only 0."""
        bits = 0
        for value, span in ((lba, self.lba), (count, self.count), (length, self.length)):
            assert not value or isinstance(span, tuple), "the layout lacks this field"
            bits |= self._shifted(value, span) if isinstance(span, tuple) else 0
        return bits


def _ones(span: Span | int | None) -> int:
    """The largest value of a field; 0 without the field."""
    return (1 << 8 * span[1]) - 1 if isinstance(span, tuple) else 0


def _number(cdb: bytes, span: Span) -> int:
    at, size = span
    return int.from_bytes(cdb[at : at + size], "big")


BLOCKS_6 = CdbLayout(6, lba=(1, 3), count=(4, 1), lba_bits=21, zero_count=256)  # SBC-3 5.9
BLOCKS_10 = CdbLayout(10, lba=(2, 4), count=(7, 2))
BLOCKS_12 = CdbLayout(12, lba=(2, 4), count=(6, 4))
BLOCKS_16 = CdbLayout(16, lba=(2, 8), count=(10, 4))
NO_DATA_6, NO_DATA_10 = CdbLayout(6), CdbLayout(10)
DATA_6 = CdbLayout(6, length=(4, 1))
LONG_DATA_6 = CdbLayout(6, length=(3, 2))
DATA_10 = CdbLayout(10, length=(7, 2))
DATA_12 = CdbLayout(12, length=(6, 4))
DATA_16 = CdbLayout(16, length=(10, 4))


class Field(NamedTuple):
    """bits: a mask for the `size` bytes at `byte`; a negative byte counts from the end of the CDB. why: for
    the manual."""

    byte: int
    bits: int
    name: str
    why: str
    size: int = 1

    def mask(self, length: int) -> int:
        """Its bits in a CDB of that length, read as one big-endian number."""
        return self.bits << 8 * (length - self.byte % length - self.size)

    def place(self, length: int) -> str:
        """For the manual: byte 1 bits 7-5."""
        first = self.byte % length
        if self.size > 1:
            return f"bytes {first}-{first + self.size - 1}"
        if self.bits == 0xFF:
            return f"byte {first}"
        high, low = self.bits.bit_length() - 1, (self.bits & -self.bits).bit_length() - 1
        return f"byte {first} bit {high}" if high == low else f"byte {first} bits {high}-{low}"


# Refused

NACA = Field(-1, 0x04, "NACA", "no auto contingent allegiance (NORMACA clear): SAM-5 5.2 has it refused")
_NO_PROTECTION = "no protection information: SBC-4 has any value but 000b refused; "
RDPROTECT = Field(1, 0xE0, "RDPROTECT", _NO_PROTECTION + "LIO refuses it, too")
WRPROTECT = Field(1, 0xE0, "WRPROTECT", _NO_PROTECTION + "LIO refuses it, too, but not in COMPARE AND WRITE")
VRPROTECT = Field(1, 0xE0, "VRPROTECT", _NO_PROTECTION + "LIO ignores it")
ORPROTECT = Field(1, 0xE0, "ORPROTECT", _NO_PROTECTION + "LIO has no ORWRITE")
FMTPINFO = Field(1, 0xC0, "FMTPINFO", "no protection information, which it asks to be made")
RELADR = Field(1, 0x01, "RELADR", "obsolete since SBC-2; the LBA would count from that of an earlier command")
ANCHOR = Field(1, 0x10, "ANCHOR", "blocks cannot be anchored (ANC_SUP clear): SBC-4 5.52; LIO refuses it")
UNMAP_ANCHOR = Field(
    1, 0x01, "ANCHOR", "blocks cannot be anchored (ANC_SUP clear): SBC-4 5.35; LIO refuses it"
)
PBDATA = Field(1, 0x04, "PBDATA", "obsolete; each block would get its own address written in; LIO refuses it")
LBDATA = Field(1, 0x02, "LBDATA", "obsolete; each block would get its own LBA written in; LIO refuses it")
BOUNDARY = Field(10, 0xFFFF, "ATOMIC BOUNDARY", "not supported: page B0 announces a length of 0", 2)
REPORT_TYPE = Field(14, 0xFF, "REPORT TYPE", "descriptors of some blocks alone are not supported")
DEFECT_FORMAT = Field(1, 0x07, "DEFECT LIST FORMAT", "with the empty list taken here only 000b is mandatory")
FFMT = Field(4, 0x03, "FFMT", "no fast format, after which the medium would not be written: SBC-4 5.4")
SAVE_PAGES = Field(1, 0x01, "SP", "pages cannot be saved: SPC-5 6.12 has it refused")
REVERT = Field(1, 0x02, "RTD", "pages do not revert to defaults by themselves (no RTD_SUP)")
CMDDT = Field(1, 0x02, "CMDDT", "obsolete since SPC-3; command support data is another answer than expected")
PPC = Field(1, 0x02, "PPC", "obsolete since SPC-4; all parameters are another answer than changed ones")
THIRD_PARTY = Field(1, 0x10, "3RDPTY", "the reservation would be another initiator's")
EXTENT = Field(1, 0x01, "EXTENT", "obsolete since SPC-2; extents cannot be reserved")
PREVENT_CHANGER = Field(4, 0x02, "PREVENT 1xb", "obsolete; of a medium changer")
_ERASES = "reserved; what erases all data asks for nothing unknown (libiscsi's suite checks it)"
ZNR = Field(1, 0x40, "ZNR", _ERASES)
ERASE_RESERVED = Field(2, (1 << 40) - 1, "reserved", _ERASES, 5)

# Ignored

LUN = Field(1, 0xE0, "LUN", "reserved; SCSI-2 initiators, and Linux until it has INQUIRY data, set it")
_GROUPS = "nothing is collected in groups (GROUP_SUP clear)"
GROUP_10 = Field(6, 0x3F, "GROUP NUMBER", _GROUPS)
GROUP_12 = Field(10, 0x3F, "GROUP NUMBER", _GROUPS)
GROUP_16 = Field(14, 0x3F, "GROUP NUMBER", _GROUPS)
RARC = Field(1, 0x04, "RARC", "rebuild assist is never on, and only then it means something")
FUA_NV = Field(1, 0x02, "FUA_NV", "obsolete; without NV_SUP it allowed any cache")
DLD2 = Field(1, 0x01, "DLD2", "a limit of duration, void without the mode pages that define limits")
DLD = Field(14, 0xC0, "DLD1, DLD0", "as DLD2")
SYNC_NV = Field(1, 0x04, "SYNC_NV", "obsolete; the medium is more than a non-volatile cache")
EBP = Field(1, 0x08, "EBP", "reserved; of optical disks, which it spared an erasure")
MODE_SPECIFIC = Field(1, 0xE0, "MODE SPECIFIC", "reserved in the modes there are; the LUN in SCSI-2")
RELADR_OF_NONE = Field(1, 0x01, "RELADR", "obsolete; the answer is the same")
CAPACITY_LBA = Field(2, (1 << 64) - 1, "LOGICAL BLOCK ADDRESS", "obsolete; LIO ignores it", 8)
CAPACITY_PMI = Field(14, 0x01, "PMI", "obsolete; no block is slower to reach than others")
VENDOR = Field(2, 0xFF, "vendor specific", "nothing is defined here")
INTERLEAVE = Field(3, 0xFF, "INTERLEAVE", "obsolete; there are no tracks")
INTERLEAVE_LOW = Field(4, 0xFC, "INTERLEAVE", "obsolete; its lowest bits are FFMT now")
PARTY_ID_6 = Field(1, 0x0E, "THIRD PARTY DEVICE ID", "obsolete; void without 3RDPTY")
EXTENT_ID = Field(2, 0xFF, "RESERVATION IDENTIFICATION", "obsolete; void without EXTENT")
EXTENT_LIST_6 = Field(3, 0xFFFF, "EXTENT LIST LENGTH", "obsolete; void without EXTENT", 2)
LONGID = Field(1, 0x02, "LONGID", "void without 3RDPTY")
PARTY_ID_10 = Field(3, 0xFF, "THIRD PARTY DEVICE ID", "void without 3RDPTY")
LIST_10 = Field(7, 0xFFFF, "PARAMETER LIST LENGTH", "void without 3RDPTY and EXTENT", 2)
CONTROL_VENDOR = Field(-1, 0xC0, "control: vendor specific", "nothing is defined here; LIO ignores it")
CONTROL_LINK = Field(-1, 0x03, "control: FLAG, LINK", "obsolete since SAM-4; LIO ignores them")

REFUSED_BY_ALL = (NACA,)
IGNORED_BY_ALL = (CONTROL_VENDOR, CONTROL_LINK)
LONGEST_WITH_LUN = 12  # bytes of a CDB of SCSI-2, where byte 1 begins with the LUN
