"""Offsets and sizes: include/uapi/linux/target_core_user.h, as compiled by the kernels' own compilers."""

from sys import byteorder

import pytest

from tcmu_runner.ring import layout
from tcmu_runner.ring.layout import ARM32, I386, LP64, Layout, MailboxFlag, TmrType


@pytest.mark.parametrize(
    ("iovs", "cdb", "length"),
    [
        # max(48 + 16 * iovs, 112) + roundup(cdb, 8)
        *((iovs, 6, 120) for iovs in range(5)),
        *((iovs, cdb, 128) for iovs in range(5) for cdb in (10, 12, 16)),
        *((iovs, 32, 144) for iovs in range(5)),
        (0, 260, 376),
        (5, 10, 144),
        (256, 16, 4160),
    ],
)
def test_entry_length(iovs: int, cdb: int, length: int) -> None:
    assert LP64.entry_length(iovs, cdb) == length


@pytest.mark.parametrize(("iovs", "offset"), [(0, 112), (8, 112), (9, 116), (10, 124)])
def test_i386_cdb_follows_iovs_of_8_bytes(iovs: int, offset: int) -> None:
    assert I386.cdb_offset(iovs) == offset


@pytest.mark.parametrize(("iovs", "offset"), [(0, 112), (8, 112), (9, 120), (10, 128)])
def test_arm32_cdb_follows_iovs_of_8_bytes(iovs: int, offset: int) -> None:
    assert ARM32.cdb_offset(iovs) == offset


def word(value: int, size: int) -> bytes:
    return value.to_bytes(size, byteorder)


@pytest.mark.parametrize(
    ("kind", "cdb_off", "iov", "half"), [(LP64, 24, 48, 8), (I386, 20, 44, 4), (ARM32, 24, 48, 4)]
)
def test_request(kind: Layout, cdb_off: int, iov: int, half: int) -> None:
    packed = kind.request.pack(0x81, 0x1234, 0x56, 0x78, 0x11, 0x22, 0x33, 0x44556677, 0x1000, 0x2000)
    expected = bytearray(iov + 2 * half)
    expected[0:4] = word(0x81, 4)
    expected[4:6] = word(0x1234, 2)
    expected[6:8] = b"\x56\x78"
    expected[8:12] = word(0x11, 4)
    expected[12:16] = word(0x22, 4)
    expected[16:20] = word(0x33, 4)
    expected[cdb_off : cdb_off + 8] = word(0x44556677, 8)
    expected[iov : iov + half] = word(0x1000, half)
    expected[iov + half :] = word(0x2000, half)
    assert packed == expected
    assert kind.iov_offset == iov
    assert kind.iov.pack(0x1000, 0x2000) == expected[iov:]


def test_response() -> None:
    packed = layout.CHECK_CONDITION_RESPONSE.pack(0x1234, 0, 0x02, 0x02, 0x55, b"\x70")
    # From cmd_id at offset 4: kflags, uflags, scsi_status at 8, read_len at 12, sense at 16 to 112.
    assert packed == word(0x1234, 2) + b"\0\x02\x02\0\0\0" + word(0x55, 4) + b"\x70" + bytes(95)
    assert layout.RESPONSE.pack(0x1234, 0, 0x02, 0x02, 0x55) == packed[:12]
    assert layout.CMD_ID == 4
    assert layout.UFLAGS == 7


def test_mailbox() -> None:
    assert layout.MAILBOX.pack(2, 0xF, 128, 8388480, 64) == b"".join(
        (word(2, 2), word(0xF, 2), word(128, 4), word(8388480, 4), word(64, 4))
    )
    assert (4 * layout.HEAD, 4 * layout.TAIL, layout.MAILBOX_LENGTH) == (12, 64, 128)


def test_task_management_entry() -> None:
    packed = layout.TMR_ENTRY.pack(40 | 2, 0, 0, 0, 5, 3)
    assert packed == word(42, 4) + bytes(4) + b"\x05\0\0\0" + word(3, 4) + bytes(16)


def test_numbers() -> None:
    assert (layout.PAD, layout.CMD, layout.TMR) == (0, 1, 2)
    assert (layout.UNKNOWN_OP, layout.READ_LEN, layout.KEEP_BUFFER) == (1, 2, 4)
    assert [flag.value for flag in MailboxFlag] == [1, 2, 4, 8]
    assert [kind.value for kind in TmrType] == [0, 1, 2, 3, 4, 5, 6, 7, 128]


@pytest.mark.parametrize(
    ("cdb", "length"),
    [
        ("00", 6),  # TEST UNIT READY
        ("12", 6),  # INQUIRY
        ("28", 10),  # READ (10)
        ("5e", 10),  # PERSISTENT RESERVE IN
        ("60", 12),  # reserved, as the kernel has it
        ("7f00000000000018", 32),  # additional CDB length 18h: READ (32)
        ("7f000000000000fc", 260),
        ("88", 16),  # READ (16)
        ("a0", 12),  # REPORT LUNS
        ("c0", 10),  # vendor specific, as the kernel has it
        ("e0", 10),
    ],
)
def test_cdb_length(cdb: str, length: int) -> None:
    assert layout.cdb_length(bytes.fromhex(cdb)) == length


@pytest.mark.parametrize("cdb", [b"", b"\x7f\0\0\0\0\0\0"])
def test_cdb_length_of_too_little(cdb: bytes) -> None:
    with pytest.raises(IndexError):
        layout.cdb_length(cdb)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", LP64),
        ("aarch64", LP64),
        ("s390x", LP64),
        ("armv8l", LP64),
        ("i386", I386),
        ("i686", I386),
        ("armv7l", ARM32),
        ("armv6l", ARM32),
    ],
)
def test_layout_of_a_machine(machine: str, expected: Layout) -> None:
    assert Layout.for_machine(machine) is expected
