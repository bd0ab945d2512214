"""INQUIRY and the vital product data pages (SPC-5 6.7, 7.7; SBC-4 6.6)."""

from collections.abc import Callable

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.unit import Identity, Unit

DISK = 0x00
SPC_5 = 0x07
SAM_5_STANDARD, SPC_5_STANDARD, SBC_4_STANDARD = 0x00A0, 0x05C0, 0x0600  # SPC-5 annex D, no version claimed
EXTENDED_COPY, REPORT_TARGET_PORT_GROUPS = 0x83, (0xA3, 0x0A)


def inquiry(unit: Unit, command: Command) -> None:
    page, allocation = command.cdb[2], command.field(3, 2)
    if command.cdb[1] & 0x01:
        command.reply(_vital_page(unit, page), allocation)
    elif page:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    else:
        command.reply(_standard(unit), allocation)


def _text(text: str, size: int) -> bytes:
    """Left-aligned ASCII, padded with blanks (SPC-5 4.3.1)."""
    return text.encode("ascii", "replace")[:size].ljust(size)


def _standard(unit: Unit) -> bytes:
    identity = unit.identify()
    data = bytearray(74)
    data[0] = DISK
    data[2] = SPC_5
    data[3] = 0x12  # HISUP, RESPONSE DATA FORMAT 2
    data[4] = len(data) - 5
    data[5] = 0x08 if unit.table.offers(unit, EXTENDED_COPY) else 0  # 3PC
    if unit.table.offers(unit, *REPORT_TARGET_PORT_GROUPS):
        data[5] |= 0x30  # TPGS: implicit and explicit
    data[7] = 0x02  # CMDQUE
    data[8:36] = _text(identity.vendor, 8) + _text(identity.product, 16) + _text(identity.revision, 4)
    for at, standard in ((58, SAM_5_STANDARD), (60, SPC_5_STANDARD), (62, SBC_4_STANDARD)):
        data[at : at + 2] = standard.to_bytes(2, "big")
    return bytes(data)


def _vital_page(unit: Unit, code: int) -> bytes:
    if code not in supported_pages(unit):
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    body = _PAGES[code](unit)
    return bytes((DISK, code)) + len(body).to_bytes(2, "big") + body


def supported_pages(unit: Unit) -> list[int]:
    """Thin provisioning has a page only where the storage can give space back."""
    return [code for code in _PAGES if code != 0xB2 or unit.capabilities.unmap]


def _serial_number(unit: Unit) -> bytes:
    return unit.identify().serial.encode("ascii", "replace")


def _identification(unit: Unit) -> bytes:
    identity = unit.identify()
    t10 = _text(identity.vendor, 8) + f"{identity.product}:{identity.serial}".encode("ascii", "replace")[:240]
    return _designator(2, 1, t10) + _designator(1, 3, naa(identity))


def _designator(code_set: int, kind: int, value: bytes) -> bytes:
    """A designation descriptor of the logical unit itself (SPC-5 7.7.6.1)."""
    return bytes((code_set, kind, 0, len(value))) + value


def naa(identity: Identity) -> bytes:
    """NAA IEEE Registered Extended (SPC-5 7.7.6.6.5) as LIO builds it for its own backstores: the company,
    then the hexadecimal digits of the serial. A disk that moves to this daemon keeps its /dev/disk/by-id."""
    digits = "".join(c for c in identity.serial if c in "0123456789abcdefABCDEF")[:25]
    return bytes.fromhex(f"6{identity.company_id:06x}{digits:0<25}")


def _block_limits(unit: Unit) -> bytes:
    limits, body = unit.limits, bytearray(60)
    body[0] = 0x01  # WSNZ
    body[2:4] = limits.granularity.to_bytes(2, "big")
    body[4:8] = limits.max_transfer.to_bytes(4, "big")
    body[8:12] = limits.optimal_transfer.to_bytes(4, "big")
    if unit.capabilities.unmap:
        body[16:20] = limits.max_unmap.to_bytes(4, "big")
        body[20:24] = limits.max_unmap_descriptors.to_bytes(4, "big")
        body[24:28] = limits.unmap_granularity.to_bytes(4, "big")
        body[28:32] = (0x80000000 | limits.unmap_alignment).to_bytes(4, "big")  # UGAVALID
    if unit.capabilities.write:
        body[32:40] = limits.max_write_same.to_bytes(8, "big")
    return bytes(body)


def _characteristics(unit: Unit) -> bytes:
    body = bytearray(60)
    body[1] = 0 if unit.identify().rotational else 1  # MEDIUM ROTATION RATE: not reported, or non-rotating
    return bytes(body)


def _provisioning(unit: Unit) -> bytes:
    zero = 0x04 if unit.capabilities.unmap_reads_zero else 0  # LBPRZ 001b
    return bytes((0, 0x80 | 0x40 | 0x20 | zero, 0x02, 0))  # LBPU, LBPWS, LBPWS10; thin provisioned


_PAGES: dict[int, Callable[[Unit], bytes]] = {
    0x00: lambda unit: bytes(supported_pages(unit)),
    0x80: _serial_number,
    0x83: _identification,
    0xB0: _block_limits,
    0xB1: _characteristics,
    0xB2: _provisioning,
}
