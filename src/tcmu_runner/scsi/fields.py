"""Fields of CDBs that no command here evaluates: which of them are refused, which are ignored, and why.

A recipient need not check a reserved bit (SPC-5, the definition of "reserved"), and bits that are reserved
now once had a meaning or will have one: Linux puts the LUN into byte 1 of the first INQUIRY, as SCSI-2
required. So bits that are named nowhere here are ignored. A field is refused if a standard gives it a meaning
that the unit does not support, so that the command would do something else than the initiator asks for.
"""

from __future__ import annotations

from typing import NamedTuple


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
