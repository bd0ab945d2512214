"""PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (SPC-4 6.15, 6.16; SPC-2 7.17 ff.), for a unit that
keeps reservations itself. Behind LIO the kernel answers these commands."""

from collections.abc import Callable

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.reservations import ALL_REGISTRANTS, Notices, Reservations, Type, conflict
from tcmu_runner.scsi.sense import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    REGISTRATIONS_PREEMPTED,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

REGISTER_AND_MOVE = 0x07
SPEC_I_PT, ALL_TG_PT, APTPL = 0x08, 0x04, 0x01
UNREG = 0x02  # of REGISTER AND MOVE


def _kept(unit: Unit) -> Reservations:
    assert unit.reservations is not None, "the rows of these commands need reservations"
    return unit.reservations


def reserve_unit(unit: Unit, command: Command) -> None:
    _kept(unit).reserve_unit(command.nexus)


def release_unit(unit: Unit, command: Command) -> None:
    _kept(unit).release_unit(command.nexus)


# PERSISTENT RESERVE IN


def _answer(unit: Unit, command: Command, body: bytes) -> None:
    """PRGENERATION and ADDITIONAL LENGTH before the rest (SPC-5 table 225)."""
    head = (_kept(unit).generation & 0xFFFFFFFF).to_bytes(4, "big") + len(body).to_bytes(4, "big")
    command.reply(head + body)


def read_keys(unit: Unit, command: Command) -> None:
    _answer(unit, command, b"".join(key.to_bytes(8, "big") for key in _kept(unit).keys.values()))


def read_reservation(unit: Unit, command: Command) -> None:
    """SPC-5 table 228; a reservation that all registrants hold has no key."""
    kept = _kept(unit)
    if kept.type is None:
        return _answer(unit, command, b"")
    key = kept.keys[kept.holder] if kept.holder is not None else 0
    return _answer(unit, command, key.to_bytes(8, "big") + bytes((0, 0, 0, 0, 0, kept.type, 0, 0)))


def report_capabilities(unit: Unit, command: Command) -> None:
    """SPC-5 table 231: CRH; all types; nothing is kept across a power loss."""
    command.reply(bytes((0, 8, 0x10, 0x80, 0xEA, 0x01, 0, 0)))


def read_full_status(unit: Unit, command: Command) -> None:
    kept = _kept(unit)
    _answer(unit, command, b"".join(_status(kept, who, key) for who, key in kept.keys.items()))


def _status(kept: Reservations, who: tuple[bytes, int], key: int) -> bytes:
    """Full status descriptor (SPC-5 table 236): R_HOLDER, then scope and type of what it holds."""
    holds = kept.holds(who)
    transport_id, port = who
    return (
        key.to_bytes(8, "big")
        + bytes((0, 0, 0, 0, 0x01 if holds else 0, kept.type or 0 if holds else 0, 0, 0, 0, 0))
        + port.to_bytes(2, "big")
        + len(transport_id).to_bytes(4, "big")
        + transport_id
    )


# PERSISTENT RESERVE OUT


def _parameters(command: Command) -> bytes:
    """The basic parameter list (SPC-5 table 239): exactly 24 bytes."""
    size = command.data_length
    parameters = command.parameter_list(24)
    if size != 24 or len(parameters) < 24:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    if parameters[20] & (SPEC_I_PT | ALL_TG_PT | APTPL):  # as REPORT CAPABILITIES says
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(20, in_cdb=False))
    return parameters


def _keys(parameters: bytes) -> tuple[int, int]:
    """RESERVATION KEY and SERVICE ACTION RESERVATION KEY."""
    return int.from_bytes(parameters[0:8], "big"), int.from_bytes(parameters[8:16], "big")


def _type(command: Command) -> Type:
    """Refuses a SCOPE other than the logical unit, and obsolete types (SPC-4 6.16.2)."""
    kind = _known_type(command)
    if kind is None:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(2))
    return kind


def _known_type(command: Command) -> Type | None:
    return Type(command.cdb[2]) if command.cdb[2] in set(Type) else None


def _tell(unit: Unit, notices: Notices) -> None:
    for nexus in tuple(unit.nexuses):
        for who, sense in notices:
            if nexus.who == who:
                nexus.queue_unit_attention(sense)


def _register(*, ignore: bool) -> Callable[[Unit, Command], None]:
    def register(unit: Unit, command: Command) -> None:
        key, new_key = _keys(_parameters(command))
        _tell(unit, _kept(unit).register(command.nexus.who, key, new_key, ignore=ignore))

    return register


register = _register(ignore=False)
register_and_ignore = _register(ignore=True)


def reserve(unit: Unit, command: Command) -> None:
    key, _ = _keys(_parameters(command))
    _tell(unit, _kept(unit).reserve(command.nexus.who, key, _type(command)))


def release(unit: Unit, command: Command) -> None:
    key, _ = _keys(_parameters(command))
    _tell(unit, _kept(unit).release(command.nexus.who, key, _type(command)))


def clear(unit: Unit, command: Command) -> None:
    key, _ = _keys(_parameters(command))
    _tell(unit, _kept(unit).clear(command.nexus.who, key))


def preempt(unit: Unit, command: Command) -> None:
    _preempt(unit, command)


def preempt_and_abort(unit: Unit, command: Command) -> None:
    """Also aborts the commands of nexuses that lost their registrations."""
    losers = {who for who, sense in _preempt(unit, command) if sense is REGISTRATIONS_PREEMPTED}
    if unit.abort is not None:
        for nexus in tuple(unit.nexuses):
            if nexus.who in losers:
                unit.abort(nexus)


def _preempt(unit: Unit, command: Command) -> Notices:
    key, victim = _keys(_parameters(command))
    notices = _kept(unit).preempt(command.nexus.who, key, victim, _known_type(command))
    _tell(unit, notices)
    return notices


def register_and_move(unit: Unit, command: Command) -> None:
    """Its parameter list (SPC-5 table 241) has the new holder's port and TransportID."""
    size = command.data_length
    parameters = command.parameter_list(size)
    if len(parameters) < size or size < 24:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    length = int.from_bytes(parameters[20:24], "big")
    if length < 24 or length % 4 or size != 24 + length:
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    if parameters[17] & APTPL:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(17, 0, in_cdb=False))
    if _kept(unit).type in ALL_REGISTRANTS:
        raise conflict()
    key, new_key = _keys(parameters)
    to = parameters[24 : 24 + length], int.from_bytes(parameters[18:20], "big")
    unregister = bool(parameters[17] & UNREG)
    _tell(unit, _kept(unit).move(command.nexus.who, key, new_key, to, unregister=unregister))
