"""REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS (SPC-4 6.37, 6.45)."""

from __future__ import annotations

from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import Steps
from tcmu_runner.scsi.ports import AccessState, TargetPortGroup, TargetPorts
from tcmu_runner.scsi.sense import (
    ACCESS_STATE_CHANGED,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_PARAMETER_LIST,
    PARAMETER_LIST_LENGTH_ERROR,
    SET_TARGET_PORT_GROUPS_FAILED,
    ScsiError,
)
from tcmu_runner.scsi.unit import Unit

# bits of the supported states (SPC-5 table 307)
_SUPPORTED = {
    AccessState.ACTIVE_OPTIMIZED: 0x01,
    AccessState.ACTIVE_NON_OPTIMIZED: 0x02,
    AccessState.STANDBY: 0x04,
    AccessState.UNAVAILABLE: 0x08,
    AccessState.LBA_DEPENDENT: 0x10,
    AccessState.OFFLINE: 0x40,
    AccessState.TRANSITIONING: 0x80,
}
SETTABLE = {
    AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED, AccessState.STANDBY,
    AccessState.UNAVAILABLE, AccessState.OFFLINE,
}  # fmt: skip


def _ports(unit: Unit) -> TargetPorts:
    assert unit.ports is not None, "the rows of these commands need target ports"
    return unit.ports


def report_target_port_groups(unit: Unit, command: Command) -> None:
    """With the length-only header, or with the extended one (SPC-5 tables 303 and 304)."""
    extended = command.cdb[1] >> 5
    if extended > 1:
        raise ScsiError(INVALID_FIELD_IN_CDB.at(1, 7))
    body = b"".join(map(_descriptor, _ports(unit).groups()))
    if extended:
        body = bytes((0x10, _ports(unit).transition_seconds, 0, 0)) + body
    command.reply(len(body).to_bytes(4, "big") + body)


def _descriptor(group: TargetPortGroup) -> bytes:
    """SPC-5 table 305."""
    bits = 0
    for state in group.supported:
        bits |= _SUPPORTED[state]
    head = bytes((group.state | (0x80 if group.preferred else 0), bits)) + group.id.to_bytes(2, "big")
    ports = b"".join(port.to_bytes(4, "big") for port in group.ports)
    return head + bytes((0, group.status, 0, len(group.ports))) + ports


def set_target_port_groups(unit: Unit, command: Command) -> Steps:
    """Checks all descriptors before the first change."""
    size = command.data_length
    parameters = command.parameter_list(size)
    if size and (len(parameters) < size or size < 4 or size % 4):
        raise ScsiError(PARAMETER_LIST_LENGTH_ERROR)
    known = {group.id: group for group in _ports(unit).groups()}
    changes = [_change(known, parameters[at : at + 4], at) for at in range(4, size, 4)]
    return _set_states(unit, command, changes)


def _change(
    known: dict[int, TargetPortGroup], descriptor: bytes, at: int
) -> tuple[TargetPortGroup, AccessState]:
    """SPC-5 table 357. The group has to support the requested state."""
    state, group = descriptor[0] & 0x0F, known.get(int.from_bytes(descriptor[2:4], "big"))
    if group is None:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(at + 2, in_cdb=False))
    if state not in SETTABLE or state not in group.supported:
        raise ScsiError(INVALID_FIELD_IN_PARAMETER_LIST.at(at, 3, in_cdb=False))
    return group, AccessState(state)


def _set_states(unit: Unit, command: Command, changes: list[tuple[TargetPortGroup, AccessState]]) -> Steps:
    """A generator, although it has no operations: Unit.begin must not block, and the front end's call may."""
    for group, state in changes:
        if state == group.state:
            continue
        try:
            _ports(unit).set_state(group.id, state)
        except OSError as error:
            raise ScsiError(SET_TARGET_PORT_GROUPS_FAILED) from error
        unit.queue_unit_attention(ACCESS_STATE_CHANGED, except_for=command.nexus)
    yield from ()
