"""MODE SENSE and MODE SELECT (SPC-5 6.12 to 6.15)."""

from collections.abc import Iterator

from tcmu_runner.scsi import mode_pages
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.mode_pages import ModeState, PageCode
from tcmu_runner.scsi.operations import Flush, Plan
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    SAVING_NOT_SUPPORTED,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

ALL_PAGES, ALL_SUBPAGES = 0x3F, 0xFF
CURRENT, CHANGEABLE, DEFAULT, SAVED = range(4)


def mode_sense_6(unit: Unit, command: Command) -> None:
    descriptor = _block_descriptor(unit, long=False) if not command.cdb[1] & 0x08 else b""
    pages = _pages(unit, command)
    head = bytes((3 + len(descriptor) + len(pages), 0, _device_specific(unit), len(descriptor)))
    command.reply(head + descriptor + pages)


def mode_sense_10(unit: Unit, command: Command) -> None:
    long = bool(command.cdb[1] & 0x10)
    descriptor = _block_descriptor(unit, long=long) if not command.cdb[1] & 0x08 else b""
    pages = _pages(unit, command)
    head = (6 + len(descriptor) + len(pages)).to_bytes(2, "big")
    head += bytes((0, _device_specific(unit), long and bool(descriptor), 0)) + len(descriptor).to_bytes(
        2, "big"
    )
    command.reply(head + descriptor + pages)


def _device_specific(unit: Unit) -> int:
    """WP and DPOFUA (SBC-4 6.5.1): FUA and DPO are accepted by every command that has them."""
    return (0x80 if unit.read_only else 0) | 0x10


def _block_descriptor(unit: Unit, *, long: bool) -> bytes:
    """Short or long LBA mode parameter block descriptor (SBC-4 6.5.2)."""
    if long:
        return unit.blocks.to_bytes(8, "big") + bytes(4) + unit.block_size.to_bytes(4, "big")
    return min(unit.blocks, 0xFFFFFFFF).to_bytes(4, "big") + unit.block_size.to_bytes(4, "big")


def _pages(unit: Unit, command: Command) -> bytes:
    control, number, subpage = command.cdb[2] >> 6, command.cdb[2] & 0x3F, command.cdb[3]
    if control == SAVED:
        raise ScsiError(SAVING_NOT_SUPPORTED)
    codes = [code for code in mode_pages.PAGES if _wanted(code, number, subpage)]
    if not codes:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2 if subpage in (0, ALL_SUBPAGES) else 3))
    return b"".join(_values(unit, code, control) for code in codes)


def _wanted(code: PageCode, number: int, subpage: int) -> bool:
    """SPC-5 table 207: all pages come with all subpages or with none."""
    if number == ALL_PAGES:
        return subpage == ALL_SUBPAGES or subpage == code[1] == 0
    return number == code[0] and subpage in (code[1], ALL_SUBPAGES)


def _values(unit: Unit, code: PageCode, control: int) -> bytes:
    if control == CHANGEABLE:
        return mode_pages.changeable(code, has_cache=unit.capabilities.flush)
    if control == DEFAULT:
        return ModeState.default(unit.capabilities).page(code)
    return unit.mode.page(code)


def mode_select_6(unit: Unit, command: Command) -> Plan:
    return _select(unit, command, header=4)


def mode_select_10(unit: Unit, command: Command) -> Plan:
    return _select(unit, command, header=8)


def _select(unit: Unit, command: Command, header: int) -> Plan:
    """Checks the whole list before the first change: a refused MODE SELECT changes nothing (SPC-5 6.12)."""
    size = command.data_length
    if not size:
        return None
    parameters = command.parameter_list(size)
    if len(parameters) < size or size < header:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    start = header + _check_descriptor(unit, parameters, header)
    pages = list(_parse(unit, parameters, start))
    changed = [code for code, page in pages if unit.mode.page(code) != page]
    cached = unit.mode.write_cache
    for code, page in pages:
        unit.mode.apply(code, page)
    if changed:
        unit.mode_changed(command.nexus)
    return (
        Flush() if cached and not unit.mode.write_cache else None
    )  # SBC-4 6.5.6: WCE 1 to 0 empties the cache


def _check_descriptor(unit: Unit, parameters: bytes, header: int) -> int:
    """Accepts a block descriptor with the present values only; returns its length."""
    length = parameters[3] if header == 4 else int.from_bytes(parameters[6:8], "big")
    if length == 0:
        return 0
    long = header == 8 and bool(parameters[4] & 0x01)
    wanted = 16 if long else 8
    descriptor = parameters[header : header + length]
    if length != wanted or len(descriptor) != wanted:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(header - 1, in_cdb=False))
    block_size = int.from_bytes(descriptor[-4:] if long else descriptor[-3:], "big")
    blocks = int.from_bytes(descriptor[: 8 if long else 4], "big")
    same = block_size == unit.block_size and blocks in (0, unit.blocks, min(unit.blocks, 0xFFFFFFFF))
    if not same:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(header, in_cdb=False))
    return length


def _parse(unit: Unit, parameters: bytes, start: int) -> Iterator[tuple[PageCode, bytes]]:
    while start < len(parameters):
        code = _code(parameters, start)
        if code not in mode_pages.PAGES:
            raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(start, in_cdb=False))
        now = unit.mode.page(code)
        page = parameters[start : start + len(now)]
        if len(page) < len(now):
            raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
        _check_fixed_bits(unit, code, now, page, start)
        yield code, page
        start += len(now)


def _code(parameters: bytes, start: int) -> PageCode:
    has_subpage = parameters[start] & 0x40
    if has_subpage and start + 1 >= len(parameters):
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    return parameters[start] & 0x3F, parameters[start + 1] if has_subpage else 0


def _check_fixed_bits(unit: Unit, code: PageCode, now: bytes, page: bytes, start: int) -> None:
    """Bits that are not changeable must stay (SPC-5 6.12); PS in the first byte is reserved here."""
    free = mode_pages.changeable(code, has_cache=unit.capabilities.flush)
    header = 4 if code[1] else 2
    if page[:header] != now[:header]:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(start, in_cdb=False))
    for at in range(header, len(now)):
        wrong = (now[at] ^ page[at]) & ~free[at]
        if wrong:
            raise ScsiError(
                INVALID_FIELD_IN_PARAMETER_LIST.at(start + at, wrong.bit_length() - 1, in_cdb=False)
            )
