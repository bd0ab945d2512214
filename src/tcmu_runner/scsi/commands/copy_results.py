"""RECEIVE COPY RESULTS (SPC-5 6.25 to 6.28): the results of an EXTENDED COPY, and the limits of one."""

from tcmu_runner.scsi import xcopy
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.sense import INVALID_FIELD_IN_CDB, ScsiError
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.scsi.xcopy import IN_PROGRESS


def copy_status(unit: Unit, command: Command) -> None:
    """COPY STATUS(LID1) (SPC-5 table 313); the results of a finished copy can be read once."""
    key = command.nexus, command.cdb[2]
    results = unit.copies.get(key)
    if results is None:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    if results.status != IN_PROGRESS:
        del unit.copies[key]
    data = (8).to_bytes(4, "big") + bytes((results.status,)) + results.segments.to_bytes(2, "big")
    units, count = _transfer_count(results.transferred)
    command.reply(data + bytes((units,)) + count.to_bytes(4, "big"))


def _transfer_count(transferred: int) -> tuple[int, int]:
    """TRANSFER COUNT UNITS (SPC-5 table 315): the finest of bytes, KiB, MiB, ... that 32 bits can count."""
    for units in range(7):
        if transferred >> 10 * units <= 0xFFFFFFFF:
            return units, transferred >> 10 * units
    return 6, 0xFFFFFFFF


def operating_parameters(unit: Unit, command: Command) -> None:
    """SPC-5 table 318."""
    data = bytearray(44)
    data[4] = 0x01  # SNLID: LIST ID USAGE 11b is supported
    data[8:10] = xcopy.MAX_CSCD_DESCRIPTORS.to_bytes(2, "big")
    data[10:12] = xcopy.MAX_SEGMENT_DESCRIPTORS.to_bytes(2, "big")
    data[12:16] = xcopy.MAX_DESCRIPTORS_LENGTH.to_bytes(4, "big")
    data[16:20] = xcopy.MAX_SEGMENT_LENGTH.to_bytes(4, "big")
    data[34:36] = (1).to_bytes(2, "big")  # TOTAL CONCURRENT COPIES
    data[36] = 1  # MAXIMUM CONCURRENT COPIES
    data[37] = unit.block_size.bit_length() - 1  # DATA SEGMENT GRANULARITY, a power of two
    codes = xcopy.DESCRIPTORS
    data[43] = len(codes)
    data[0:4] = (len(data) + len(codes) - 4).to_bytes(4, "big")
    command.reply(bytes(data) + codes)


def failed_segment_details(unit: Unit, command: Command) -> None:
    """SPC-5 6.28: a failed EXTENDED COPY returns its sense data itself, so none is kept."""
    command.reply(bytes((0, 0, 0, 0)))
