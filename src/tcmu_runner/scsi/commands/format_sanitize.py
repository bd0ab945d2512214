"""FORMAT UNIT and SANITIZE (SBC-4 5.4, 5.30), and READ DEFECT DATA (5.22, 5.23)."""

from tcmu_runner import iov
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.commands.provisioning import clear, repeat
from tcmu_runner.scsi.medium import MediumJob
from tcmu_runner.scsi.operations import CryptoErase, Flush, Plan, Steps, Unmap, Write, WriteZeroes
from tcmu_runner.scsi.sense import (
    FORMAT_FAILED,
    FORMAT_IN_PROGRESS,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    SANITIZE_FAILED,
    SANITIZE_IN_PROGRESS,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

IMMED = 0x80  # of SANITIZE


def format_unit(unit: Unit, command: Command) -> Plan:
    """Afterwards every block reads as zeroes, or as the initialization pattern."""
    _check_idle(unit)
    immediate, block = _format_parameters(unit, command) if command.cdb[1] & 0x10 else (False, None)
    if block is None or block.count(0) == len(block):
        steps = clear(unit, 0, unit.size, unmap=unit.capabilities.unmap)
    else:
        steps = repeat(0, unit.size, block, fua=not unit.mode.write_cache)
    job = MediumJob(FORMAT_IN_PROGRESS, FORMAT_FAILED, unit.size)
    return _start(unit, job, steps, immediate=immediate)


def _format_parameters(unit: Unit, command: Command) -> tuple[bool, bytes | None]:
    """(IMMED, the block to write) of a short or long parameter list header (SBC-4 tables 43 and 44). The
    initiator's defect list must be empty: the storage handles bad blocks itself."""
    long = bool(command.cdb[1] & 0x20)
    size = 8 if long else 4
    parameters = iov.gather(command.data)
    if len(parameters) < size:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    if parameters[0] & 0x07 or parameters[1] & 0x01:  # PROTECTION FIELDS USAGE; vendor specific
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(0, in_cdb=False))
    flags = parameters[1]
    if not flags & 0x80 and flags & 0x78:  # FOV says whether DPRY, DCRT, STPF and IP mean anything
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(1, 7, in_cdb=False))
    defects = int.from_bytes(parameters[4:8] if long else parameters[2:4], "big")
    if defects:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(4 if long else 2, in_cdb=False))
    pattern = _format_pattern(unit, parameters[size:], size) if flags & 0x08 else None
    return bool(flags & 0x02), pattern


def _format_pattern(unit: Unit, descriptor: bytes, at: int) -> bytes | None:
    """One block of the initialization pattern (SBC-4 table 47); None for the default."""
    if len(descriptor) < 4:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    modifier, kind, length = descriptor[0] >> 6, descriptor[1], int.from_bytes(descriptor[2:4], "big")
    if modifier or kind > 1 or (kind == 0 and length) or (kind == 1 and not 0 < length <= unit.block_size):
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(at, in_cdb=False))
    if kind == 0:
        return None
    if len(descriptor) < 4 + length:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    return _block_of(unit, descriptor[4 : 4 + length])


def _block_of(unit: Unit, pattern: bytes) -> bytes:
    return (pattern * (unit.block_size // len(pattern) + 1))[: unit.block_size]


def sanitize_overwrite(unit: Unit, command: Command) -> Plan:
    """Writes the pattern as often as requested, the last time as given (SBC-4 5.30)."""
    _check_idle(unit)
    size = command.data_length
    if not 4 < size <= unit.block_size + 4:
        raise command.wrong_data_length()
    parameters = command.parameter_list(size)
    if len(parameters) < size:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    passes, length = parameters[0] & 0x1F, int.from_bytes(parameters[2:4], "big")
    if not passes or parameters[0] & 0x60:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(0, in_cdb=False))
    if not 0 < length <= size - 4:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(2, in_cdb=False))
    block = _block_of(unit, parameters[4 : 4 + length])
    inverts = bool(parameters[0] & 0x80)
    return _sanitize(unit, command, _overwrite(unit, block, passes, inverts=inverts), passes)


def _overwrite(unit: Unit, block: bytes, passes: int, *, inverts: bool) -> Steps:
    inverted = bytes(byte ^ 0xFF for byte in block)
    for left in reversed(range(passes)):
        yield from repeat(0, unit.size, inverted if inverts and left % 2 else block, fua=False)
        yield Flush()  # a pass that stays in a cache does not overwrite the medium


def sanitize_block_erase(unit: Unit, command: Command) -> Plan:
    _check_idle(unit)
    _check_no_parameters(command)
    return _sanitize(unit, command, _erase(unit))


def _erase(unit: Unit) -> Steps:
    yield from clear(unit, 0, unit.size, unmap=True)
    yield Flush()


def sanitize_crypto_erase(unit: Unit, command: Command) -> Plan:
    _check_idle(unit)
    _check_no_parameters(command)
    return _sanitize(unit, command, _forget_key())


def _forget_key() -> Steps:
    yield CryptoErase()


def sanitize_exit_failure_mode(unit: Unit, command: Command) -> None:
    """After a failed sanitize that allowed it (AUSE), the unit can be used again (SBC-4 5.30)."""
    _check_idle(unit)
    _check_no_parameters(command)
    failed = unit.medium.failed
    if failed is not None and not failed.allows_exit:
        raise ScsiError(failed.failure)
    unit.medium.end()


def _check_no_parameters(command: Command) -> None:
    if command.data_length:
        raise command.wrong_data_length()


def _check_idle(unit: Unit) -> None:
    """These commands repair a failed medium, so a failure does not refuse them; any other obstacle does."""
    obstacle = unit.medium.obstacle()
    if obstacle is not None and not unit.medium.idle:
        raise ScsiError(obstacle)


def _sanitize(unit: Unit, command: Command, steps: Steps, passes: int = 1) -> Plan:
    allows_exit = bool(command.cdb[1] & 0x20)
    job = MediumJob(SANITIZE_IN_PROGRESS, SANITIZE_FAILED, unit.size * passes, allows_exit=allows_exit)
    return _start(unit, job, steps, immediate=bool(command.cdb[1] & IMMED))


def _start(unit: Unit, job: MediumJob, steps: Steps, *, immediate: bool) -> Plan:
    """With IMMED the command ends now, and `spawn` runs the steps in the background if the unit has it."""
    if not immediate or unit.spawn is None:
        return _supervised(unit, job, steps)
    unit.medium.begin(job)
    unit.spawn(_supervised(unit, job, steps))
    return None


def _supervised(unit: Unit, job: MediumJob, steps: Steps) -> Steps:
    """Counts progress. The first failure ends the job, and the medium reports it from then on, also when the
    job was given up: the medium is not in the requested state."""
    if unit.medium.job is not job:
        _check_idle(unit)
        unit.medium.begin(job)
    try:
        for operation in steps:
            yield operation
            job.done += _size(operation)
    except BaseException:
        unit.medium.end(job)
        raise
    unit.medium.end()


def _size(operation: object) -> int:
    match operation:
        case Write(data=data):
            return iov.length(data)
        case WriteZeroes(length=length) | Unmap(length=length):
            return length
        case _:
            return 0


def read_defect_data_10(unit: Unit, command: Command) -> None:
    """An empty list: the storage handles bad blocks itself (SBC-4 table 81)."""
    lists = command.cdb[2] & 0x1F
    command.reply(bytes((0, lists, 0, 0)))


def read_defect_data_12(unit: Unit, command: Command) -> None:
    """SBC-4 table 83."""
    lists = command.cdb[1] & 0x1F
    command.reply(bytes((0, lists, 0, 0, 0, 0, 0, 0)))
