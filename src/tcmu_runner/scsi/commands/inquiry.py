"""INQUIRY (SPC-5 6.7)."""

from tcmu_runner.scsi import vpd
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.unit import Unit

DISK = 0x00
SPC_4 = 0x06  # the newest version that initiators know; the version descriptors say more
# SPC-5 annex D, none with a version claimed: SAM-5, SPC-4, SPC-5, SBC-3, SBC-4
STANDARDS = (0x00A0, 0x0460, 0x05C0, 0x04C0, 0x0600)


def inquiry(unit: Unit, command: Command) -> None:
    page = command.cdb[2]
    if command.cdb[1] & 0x01:
        if page not in vpd.supported(unit):
            raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
        command.reply(vpd.page(unit, command.nexus, page))
    elif page:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    else:
        command.reply(_standard(unit))


def _standard(unit: Unit) -> bytes:
    """SPC-5 table 146."""
    identity = unit.identify()
    data = bytearray(74)
    data[0] = DISK
    data[1] = 0x80 if unit.removable else 0  # RMB
    data[2] = SPC_4
    data[3] = 0x12  # HISUP, RESPONSE DATA FORMAT 2
    data[4] = len(data) - 5
    data[5] = _access_control(unit)
    data[6] = 0x10 if unit.ports is not None and _is_multi_port(unit) else 0  # MULTIP
    data[7] = 0x02  # CMDQUE
    data[8:16] = vpd.text(identity.vendor, 8)
    data[16:32] = vpd.text(identity.product, 16)
    data[32:36] = vpd.text(identity.revision, 4)
    for at, standard in enumerate(STANDARDS):
        data[58 + 2 * at : 60 + 2 * at] = standard.to_bytes(2, "big")
    return bytes(data)


def _access_control(unit: Unit) -> int:
    """TPGS, bits 5 and 4: which ways of changing access states there are; 3PC, bit 3."""
    bits = 0x08 if unit.table.offers(unit, "EXTENDED COPY(LID1)") else 0
    if unit.ports is not None and unit.table.offers(unit, "REPORT TARGET PORT GROUPS"):
        bits |= (0x10 if unit.ports.implicit else 0) | (0x20 if unit.ports.explicit else 0)
    return bits


def _is_multi_port(unit: Unit) -> bool:
    assert unit.ports is not None
    return sum(len(group.ports) for group in unit.ports.groups()) > 1
