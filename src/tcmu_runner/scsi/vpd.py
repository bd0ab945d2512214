"""The vital product data pages (SPC-5 7.7, SBC-4 6.6), for INQUIRY. `_PAGES` has them by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tcmu_runner.scsi import xcopy
from tcmu_runner.scsi.xcopy import Designator

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Nexus
    from tcmu_runner.scsi.profile import Identity
    from tcmu_runner.scsi.unit import Unit

ASCII, BINARY = 2, 1  # code sets
T10_VENDOR, NAA, RELATIVE_PORT, PORT_GROUP = 0x01, 0x03, 0x14, 0x15  # association and designator type
THIRD_PARTY_COPY = "EXTENDED COPY", "RECEIVE COPY RESULTS"  # prefixes of the commands' names


def text(value: str, size: int) -> bytes:
    """Left-aligned ASCII, padded with blanks (SPC-5 4.3.1)."""
    return value.encode("ascii", "replace")[:size].ljust(size)


def supported(unit: Unit) -> list[int]:
    """Logical Block Provisioning only if the storage can unmap, Third Party Copy only with EXTENDED COPY."""
    absent = {0xB2} if not unit.capabilities.unmap else set()
    if not unit.table.offers(unit, "EXTENDED COPY(LID1)"):
        absent.add(0x8F)
    return [code for code in _PAGES if code not in absent]


def page(unit: Unit, nexus: Nexus, code: int) -> bytes:
    """A page that is supported, its header included (SPC-5 7.7.1)."""
    body = _PAGES[code](unit, nexus)
    return bytes((0, code)) + len(body).to_bytes(2, "big") + body


def _supported_pages(unit: Unit, _nexus: Nexus) -> bytes:
    return bytes(supported(unit))


def _serial_number(unit: Unit, _nexus: Nexus) -> bytes:
    """Unit Serial Number, page 80h."""
    return unit.identify().serial.encode("ascii", "replace")


def designators(unit: Unit) -> list[Designator]:
    """The names of the logical unit, by which EXTENDED COPY also finds it."""
    identity = unit.identify()
    t10 = text(identity.vendor, 8) + f"{identity.product}:{identity.serial}".encode("ascii", "replace")[:240]
    return [Designator(ASCII, T10_VENDOR, t10), Designator(BINARY, NAA, naa(identity))]


def _identification(unit: Unit, nexus: Nexus) -> bytes:
    """Device Identification, page 83h."""
    found = designators(unit)
    here = unit.ports.here(nexus) if unit.ports is not None else None
    if here is not None:
        for kind, number in zip((RELATIVE_PORT, PORT_GROUP), here, strict=True):
            if number is not None:
                found.append(Designator(BINARY, kind, number.to_bytes(4, "big")))
    return b"".join(bytes((name.code_set, name.kind, 0, len(name.value))) + name.value for name in found)


def naa(identity: Identity) -> bytes:
    """NAA IEEE Registered Extended (SPC-5 7.7.6.6.5) as LIO builds it for its own backstores: the company,
    then the hexadecimal digits of the serial. A disk that moves to this daemon keeps its /dev/disk/by-id."""
    digits = "".join(c for c in identity.serial if c in "0123456789abcdefABCDEF")[:25]
    return bytes.fromhex(f"6{identity.company_id:06x}{digits:0<25}")


def _extended(unit: Unit, _nexus: Nexus) -> bytes:
    """Extended INQUIRY Data, page 86h (SPC-5 7.7.7): simple tasks only; whether there is a volatile cache."""
    body = bytearray(60)
    body[1] = 0x01  # SIMPSUP
    body[2] = 0x01 if unit.capabilities.flush else 0  # V_SUP
    return bytes(body)


def _third_party_copy(unit: Unit, _nexus: Nexus) -> bytes:
    """Third Party Copy, page 8Fh (SPC-5 7.7.18): the descriptors that EXTENDED COPY(LID1) requires."""
    commands = _copy_commands(unit)
    parameters = bytearray(28)
    parameters[4:6] = xcopy.MAX_CSCD_DESCRIPTORS.to_bytes(2, "big")
    parameters[6:8] = xcopy.MAX_SEGMENT_DESCRIPTORS.to_bytes(2, "big")
    parameters[8:12] = xcopy.MAX_DESCRIPTORS_LENGTH.to_bytes(4, "big")
    general = bytearray(32)
    general[0:4] = general[4:8] = (1).to_bytes(4, "big")  # TOTAL and MAXIMUM IDENTIFIED CONCURRENT COPIES
    general[8:12] = xcopy.MAX_SEGMENT_LENGTH.to_bytes(4, "big")
    general[12] = unit.block_size.bit_length() - 1  # DATA SEGMENT GRANULARITY
    codes = xcopy.DESCRIPTORS
    return b"".join(
        (
            _third_party_descriptor(0x0001, bytes((len(commands),)) + commands),
            _third_party_descriptor(0x0004, bytes(parameters)),
            _third_party_descriptor(0x0008, bytes((len(codes),)) + codes),
            _third_party_descriptor(0x000C, bytes(2)),
            _third_party_descriptor(0x8001, bytes(general)),
        )
    )


def _copy_commands(unit: Unit) -> bytes:
    """Command support descriptors (SPC-5 7.7.18): opcode, number of service actions, service actions."""
    actions: dict[int, list[int]] = {}
    for row in unit.table:
        if row.action is not None and row.name.startswith(THIRD_PARTY_COPY):
            actions.setdefault(row.opcode, []).append(row.action)
    return b"".join(bytes((opcode, len(found), *found)) for opcode, found in actions.items())


def _third_party_descriptor(kind: int, body: bytes) -> bytes:
    """Type and length, padded to a multiple of four (SPC-5 7.7.18.2)."""
    body += bytes(-len(body) % 4)
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def _block_limits(unit: Unit, _nexus: Nexus) -> bytes:
    """Block Limits, page B0h (SBC-4 table 243); offsets here are four less."""
    limits, body = unit.limits, bytearray(60)
    body[0] = 0x00 if limits.write_same_to_end else 0x01  # WSNZ
    if unit.table.offers(unit, "COMPARE AND WRITE"):
        body[1] = limits.max_compare_and_write
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
    if unit.table.offers(unit, "WRITE ATOMIC(16)"):
        body[40:44] = limits.max_atomic.to_bytes(4, "big")
    return bytes(body)


def _characteristics(unit: Unit, _nexus: Nexus) -> bytes:
    """Block Device Characteristics, page B1h (SBC-4 table 241)."""
    body = bytearray(60)
    body[1] = 0 if unit.identify().rotational else 1  # MEDIUM ROTATION RATE: not reported, or non-rotating
    if unit.table.offers(unit, "SANITIZE: BLOCK ERASE"):
        body[3] |= 0x40  # WABEREQ 01b: an erased block can be read without a write before
    if unit.table.offers(unit, "SANITIZE: CRYPTOGRAPHIC ERASE"):
        body[3] |= 0x10  # WACEREQ 01b
    return bytes(body)


def _provisioning(unit: Unit, _nexus: Nexus) -> bytes:
    """Logical Block Provisioning, page B2h (SBC-4 table 249): LBPU, LBPWS, LBPWS10, LBPRZ 001b; thin
    provisioned."""
    zero = 0x04 if unit.capabilities.unmap_reads_zero else 0
    return bytes((0, 0x80 | 0x40 | 0x20 | zero, 0x02, unit.limits.soft_threshold))


_PAGES: dict[int, Callable[[Unit, Nexus], bytes]] = {
    0x00: _supported_pages,
    0x80: _serial_number,
    0x83: _identification,
    0x86: _extended,
    0x8F: _third_party_copy,
    0xB0: _block_limits,
    0xB1: _characteristics,
    0xB2: _provisioning,
}
