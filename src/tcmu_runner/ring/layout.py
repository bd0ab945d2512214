"""The layout of the area that the kernel shares with us: include/uapi/linux/target_core_user.h.

The area is one mapping: mailbox, command ring, data area. Integers are in the byte order of the machine;
only CDBs, sense and SCSI payloads are big-endian. The mailbox, entry headers, responses and task management
entries are the same everywhere; the request differs with the kernel's word size (there is no compat layer:
a 32-bit process on a 64-bit kernel sees the 64-bit layout).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from struct import Struct

VERSION = 2  # of the mailbox; version 1 had neither command ids in the header nor bidirectional commands

MAILBOX = Struct("=HHIII")  # version, flags, cmdr_off, cmdr_size, cmd_head
MAILBOX_LENGTH = 128
# Indices of 32-bit words: head and tail are only ever read and stored as single aligned words.
HEAD = 3
TAIL = 16  # on its own cache line

ALIGNMENT = 8  # of every position in the ring, and of every entry's length
OPCODE_MASK = 7  # so the low bits of len_op are free to hold the opcode

HEADER = Struct("=IHBB")  # len_op, cmd_id, kflags, uflags
HEADER_LENGTH = 8
CMD_ID = 4
ID_SHIFT = 0 if sys.byteorder == "little" else 16  # of the id in the 32-bit word that it begins
UFLAGS = 7

CMD_LENGTH = 112  # at least: the response, which overlays the request, ends there
RESPONSE = Struct("=HBBB3xI")  # at CMD_ID: cmd_id, kflags, uflags, scsi_status, read_len
CHECK_CONDITION_RESPONSE = Struct("=HBBB3xI96s")  # the same, and the sense buffer
SENSE_LENGTH = 96
SHORT_LENGTH = CMD_LENGTH + 16  # of an entry with one iov, and a CDB of more than 8 and at most 16 bytes

TMR_ENTRY = Struct("=IHBBB3xI16x")  # header, tmr_type, cmd_cnt; then cmd_cnt ids of 16 bits
TMR_LENGTH = 32

ID_MAX = 0xFFFF  # ids of commands are 1..65535

Iov = tuple[int, int]  # base and length in bytes; the base is the offset in the area

# What an entry of the ring is. Plain integers, as the rest here: members of an enum are slow.
PAD, CMD, TMR = 0, 1, 2

# uflags: set by us in an entry.
UNKNOWN_OP, READ_LEN, KEEP_BUFFER = 0x1, 0x2, 0x4


class MailboxFlag(IntFlag):
    """Features of the kernel's ring."""

    OUT_OF_ORDER = 0x1  # CAP_OOOC, Linux 4.6
    READ_LEN = 0x2  # CAP_READ_LEN, Linux 4.19
    TMR = 0x4  # CAP_TMR, Linux 5.10
    KEEP_BUFFER = 0x8  # CAP_KEEP_BUF, Linux 5.15


ALL_FLAGS = MailboxFlag(0xF)  # as Linux presents since 5.15


class TmrType(IntEnum):
    """Task management functions; Linux posts only ABORT_TASK, LUN_RESET and LUN_RESET_PRO."""

    UNKNOWN = 0
    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LUN_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    LUN_RESET_PRO = 128  # PREEMPT AND ABORT of a persistent reservation


# The length of a CDB is not in the entry: it follows from its first byte, as the kernel's scsi_command_size()
# has it, by group code (SPC-4 4.2.5.1; vendor specific groups count as 10 bytes). 0: see byte 7.
CDB_LENGTHS = tuple(
    0 if opcode == 0x7F else (6, 10, 10, 12, 16, 12, 10, 10)[opcode >> 5] for opcode in range(256)
)


def cdb_length(cdb: Sequence[int]) -> int:
    """The length in bytes of the CDB that these bytes begin with (6 to 263).

    Raises IndexError if they are too few to tell: none, or fewer than 8 of a variable length CDB.
    """
    return CDB_LENGTHS[cdb[0]] or 8 + cdb[7]


@dataclass(frozen=True, slots=True)
class Layout:
    """The request of a CMD entry on one kind of kernel."""

    request: Struct  # header, iov_cnt, iov_bidi_cnt, iov_dif_cnt, cdb_off, then the first iov (base, length)
    iov: Struct  # base, length
    iov_offset: int  # of the first iov in the entry
    short: Struct = field(init=False)  # a whole entry with one iov and a CDB of 9 to 16 bytes

    def __post_init__(self) -> None:
        gap = CMD_LENGTH - self.iov_offset - self.iov.size
        object.__setattr__(self, "short", Struct(f"{self.request.format}{gap}x16s"))

    @classmethod
    def for_machine(cls, machine: str) -> "Layout":
        """The layout that the kernel uses on this machine (uname(2)).

        armv8l is a 64-bit kernel under a 32-bit process, hence LP64.
        """
        if machine in ("i386", "i486", "i586", "i686"):
            return I386
        if machine.startswith(("armv4", "armv5", "armv6", "armv7")):
            return ARM32
        return LP64

    def cdb_offset(self, iov_count: int) -> int:
        """Where the kernel puts the CDB in an entry with so many iovs: after them, and after the response."""
        end = self.iov_offset + self.iov.size * iov_count
        return end if end > CMD_LENGTH else CMD_LENGTH

    def entry_length(self, iov_count: int, cdb_size: int) -> int:
        """The length of an entry with so many iovs and a CDB of so many bytes."""
        return self.cdb_offset(iov_count) + align(cdb_size)


def align(length: int) -> int:
    """`length`, rounded up to a whole number of ring units of 8 bytes."""
    return (length + ALIGNMENT - 1) & -ALIGNMENT


LP64 = Layout(request=Struct("=IHBBIII4xQ16xQQ"), iov=Struct("=QQ"), iov_offset=48)
# i386 aligns a u64 to 4 bytes, 32-bit ARM to 8.
I386 = Layout(request=Struct("=IHBBIIIQ16xII"), iov=Struct("=II"), iov_offset=44)
ARM32 = Layout(request=Struct("=IHBBIII4xQ16xII"), iov=Struct("=II"), iov_offset=48)
