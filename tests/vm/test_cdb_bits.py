"""Bits of a CDB that initiators set and that mean nothing to us (docs/reference/cdb-bits.md)."""

from pathlib import Path

import pytest
from support import sg
from support.cdbs import CASES, GOOD, Send, Walk
from support.fileio import fileio
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback
from support.sg_io import commands

from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Row

# LUN 7 in byte 1, as SCSI-2 initiators have it: what LIO's own backstores take, we take
WITH_A_LUN = [
    ("00 e0 00 00 00 00", 0),  # TEST UNIT READY
    ("03 e0 00 00 12 00", 18),  # REQUEST SENSE
    ("08 e0 00 00 01 00", 512),  # READ(6)
    ("12 e0 00 00 24 00", 36),  # INQUIRY
    ("1a e0 3f 00 ff 00", 255),  # MODE SENSE(6)
    ("25 e0 00000000 0000 00 00", 8),  # READ CAPACITY(10)
    ("35 e0 00000000 00 0000 00", 0),  # SYNCHRONIZE CACHE(10)
    ("5a e0 3f 00 000000 00ff 00", 255),  # MODE SENSE(10)
    ("12 00 00 00 24 c3", 36),  # control: vendor specific, FLAG and LINK
    ("28 06 00000000 1f 0001 00", 512),  # READ(10): RARC, FUA_NV, GROUP NUMBER
    ("9e 10 0000000000000001 00000020 01 00", 32),  # READ CAPACITY(16): LBA and PMI of old standards
    ("25 00 00000000 0000 01 00", 8),  # READ CAPACITY(10): PMI
]
REFUSED = [
    ("28 20 00000000 00 0001 00", 512),  # RDPROTECT
    ("25 00 00000001 0000 00 00", 8),  # an address without PMI
]

# Reservations and REPORT LUNS: LIO ends these before a userspace backstore sees them. Their rows of the table
# are those of the embedded mode, and tests/embedded/test_cdb_bits.py goes through them there.
LIO_ANSWERS = {0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F, 0xA0}
# What a LUN in memory does not offer, with the additional sense code that says so: no LUN behind LIO has a
# removable medium (its row, too, is tried in the embedded mode), and there is no key (test_luks.py has one).
ABSENT = {"PREVENT ALLOW MEDIUM REMOVAL": "2000", "SANITIZE: CRYPTOGRAPHIC ERASE": "2400"}


def test_a_lun_1_without_a_lun_0(make_backstore: MakeBackstore, loopback: Loopback) -> None:
    """The first INQUIRY has the LUN in byte 1: 12 20 00 00 24 00."""
    disk = loopback.add(make_backstore("ram/"), lun=1)
    assert not loopback.scsi_device(0).exists()
    assert sg.raw(disk, "00 00 00 00 00 00").status == sg.GOOD


@pytest.mark.parametrize("lun", [1, 2, 7])
def test_luns_in_any_order(lun: int, make_backstore: MakeBackstore, loopback: Loopback) -> None:
    """`restoreconfig` links them in no particular order."""
    loopback.add(make_backstore("ram/"), lun=lun)
    loopback.add(make_backstore("ram/"), lun=0)


def test_old_bits_as_the_kernels_own_backstore_takes_them(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    ours = loopback.add(make_backstore("ram/"))
    with fileio("peer", tmp_path / "peer.img", 64 * MIB) as peer:
        theirs = loopback.add(peer, lun=1)
        try:
            for disk in (ours, theirs):
                sg.raw(disk, "00 00 00 00 00 00")  # takes LIO's unit attention: the LUNs have changed
                compare(disk)
        finally:
            loopback.remove(1)


def compare(disk: Path) -> None:
    for cdb, size in WITH_A_LUN:
        assert sg.raw(disk, cdb, receive=size).status == sg.GOOD, cdb
    for cdb, size in REFUSED:
        assert sg.raw(disk, cdb, receive=size).status == sg.ILLEGAL_REQUEST, cdb


def test_naca_is_refused(make_backstore: MakeBackstore, loopback: Loopback) -> None:
    """SAM-5 5.2; LIO's own backstores do not look at it."""
    disk = loopback.add(make_backstore("ram/"))
    assert sg.raw(disk, "00 00 00 00 00 04").status == sg.ILLEGAL_REQUEST


def test_every_row_refuses_and_ignores_what_the_table_says(
    make_backstore: MakeBackstore, loopback: Loopback
) -> None:
    """Of all that a LUN in memory offers."""
    disk = loopback.add(make_backstore("ram/", MIB))
    with commands(disk) as send:
        for row in DISK:
            if row.opcode not in LIO_ANSWERS and row.name not in ABSENT:
                walk = Walk(row, send)
                walk.check_refused()
                walk.check_ignored()
        for name, sense in ABSENT.items():
            assert send(bytes.fromhex(CASES[name].cdb)).sense[12:14].hex() == sense, name


def test_what_the_page_says_of_lio(loopback: Loopback, tmp_path: Path) -> None:
    """Each "LIO refuses it" and "LIO ignores it", on a file backstore of LIO's."""
    with fileio("peer", tmp_path / "peer.img", MIB) as peer, commands(loopback.add(peer)) as send:
        for row in DISK:
            if Walk(row, send).try_field().status == GOOD:  # LIO has the command
                check_what_is_said(row, send)
        loopback.remove()


def check_what_is_said(row: Row, send: Send) -> None:
    for field in (*row.refuses, *row.ignores):
        refuses, ignores = "LIO refuses" in field.why, "LIO ignores" in field.why
        if refuses or ignores:
            excepted = f"but not in {row.name}" in field.why
            status = Walk(row, send).try_field(field).status
            assert (status != GOOD) == (refuses and not excepted), (row.name, field)
