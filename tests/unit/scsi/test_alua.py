from collections.abc import Sequence
from dataclasses import replace

import pytest

from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.ports import AccessState, TargetPortGroup
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.testing.play import Ending, disk, play


class Ports:
    """A front end with two groups."""

    def __init__(self, *, implicit: bool = True, explicit: bool = True) -> None:
        self.implicit = implicit
        self.explicit = explicit
        self.transition_seconds = 7
        few = frozenset({AccessState.ACTIVE_OPTIMIZED, AccessState.STANDBY, AccessState.TRANSITIONING})
        self.all = {
            0x10: TargetPortGroup(0x10, (1, 2), preferred=True),
            0x20: TargetPortGroup(0x20, (3,), AccessState.STANDBY, few, status=2),
        }
        self.fails = False
        self.place: tuple[int | None, int] | None = (2, 0x10)

    def groups(self) -> Sequence[TargetPortGroup]:
        return list(self.all.values())

    def here(self, _nexus: Nexus) -> tuple[int | None, int] | None:
        return self.place

    def set_state(self, group: int, state: AccessState) -> None:
        if self.fails:
            raise OSError("no")
        self.all[group] = replace(self.all[group], state=state, status=1)


def unit_with(ports: Ports) -> Unit:
    unit = disk()
    unit.ports = ports
    return unit


def report(unit: Unit, flags: int = 0) -> Ending:
    return play(
        unit, bytes((0xA3, flags << 5 | 0x0A)) + bytes(4) + (255).to_bytes(4, "big") + b"\0\0", room=255
    )


def change(unit: Unit, parameters: str, nexus: Nexus | None = None) -> Ending:
    data = bytes.fromhex(parameters)
    cdb = bytes.fromhex("a4 0a 00000000") + len(data).to_bytes(4, "big") + b"\0\0"
    return play(unit, cdb, out=data, nexus=nexus)


def test_without_ports_there_are_no_groups() -> None:
    assert report(disk()).triple == "5/24/00"
    assert change(disk(), "00000000").triple == "5/20/00"
    assert play(disk(), "12 00 00 0024 00", room=36).data[5] & 0x30 == 0


def test_the_groups() -> None:
    # SPC-5 table 305: PREF and state, supported states, group; status code, number of ports; the ports
    assert report(unit_with(Ports())).data.hex(" ", 4) == (
        "0000001c "
        "80cf0010 00000002 00000001 00000002 "  # PREF, active/optimized; T O U S AN AO
        "02850020 00020001 00000003"  # standby, T S AO; status: by itself
    )


def test_the_extended_header() -> None:
    # SPC-5 table 304: format 001b in bits 6 to 4, IMPLICIT TRANSITION TIME
    data = report(unit_with(Ports()), flags=1).data
    assert data[:8].hex(" ", 4) == "00000020 10070000"


@pytest.mark.parametrize("flags", [2, 3, 7])
def test_reserved_formats(flags: int) -> None:
    assert report(unit_with(Ports()), flags).triple == "5/24/00"


def test_setting_a_state() -> None:
    # SPC-5 table 357: state, group; others learn by 6/2A/06 ASYMMETRIC ACCESS STATE CHANGED
    ports = Ports()
    unit, mine, other = unit_with(ports), Nexus(), Nexus()
    unit.connect(mine)
    unit.connect(other)
    assert change(unit, "00000000 00000020", mine).status == 0
    assert ports.all[0x20].state == AccessState.ACTIVE_OPTIMIZED
    assert play(unit, "00 00 00 00 00 00", nexus=mine).status == 0
    assert play(unit, "00 00 00 00 00 00", nexus=other).triple == "6/2A/06"


def test_setting_the_same_state_tells_nobody() -> None:
    unit, other = unit_with(Ports()), Nexus()
    unit.connect(other)
    assert change(unit, "00000000 02000020").status == 0
    assert play(unit, "00 00 00 00 00 00", nexus=other).status == 0


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("0000", "5/1A/00"),
        ("00000000 0000", "5/1A/00"),
        ("00000000 00000030", "5/26/00"),  # no such group
        ("00000000 01000020", "5/26/00"),  # a state the group does not support
        ("00000000 0f000010", "5/26/00"),  # transitioning cannot be asked for
        ("00000000 0a000010", "5/26/00"),  # reserved
        ("00000000 00000020 00000030", "5/26/00"),  # the second is wrong
    ],
)
def test_wrong_changes_change_nothing(parameters: str, why: str) -> None:
    ports = Ports()
    assert change(unit_with(ports), parameters).triple == why
    assert ports.all[0x20].state == AccessState.STANDBY


def test_no_parameters_are_no_error() -> None:
    assert play(unit_with(Ports()), "a4 0a 00000000 00000000 00 00").status == 0


def test_a_change_that_fails() -> None:
    # SPC-5 6.45: 4/67/0A SET TARGET PORT GROUPS COMMAND FAILED
    ports = Ports()
    ports.fails = True
    assert change(unit_with(ports), "00000000 00000020").triple == "4/67/0A"


@pytest.mark.parametrize(
    ("implicit", "explicit", "bits"), [(True, True, 0x30), (True, False, 0x10), (False, True, 0x20)]
)
def test_inquiry_tells_the_ways(implicit: bool, explicit: bool, bits: int) -> None:
    # SPC-5 table 150: TPGS; MULTIP in byte 6
    unit = unit_with(Ports(implicit=implicit, explicit=explicit))
    data = play(unit, "12 00 00 0024 00", room=36).data
    assert data[5] & 0x30 == bits
    assert data[6] & 0x10
    assert (change(unit, "00000000 02000020").status == 0) == explicit


def test_the_port_has_its_place_in_the_identification() -> None:
    # SPC-5 7.7.6: PIV is for protocols; association 01b target port: type 4h relative port, 5h its group
    data = play(unit_with(Ports()), "12 01 83 00ff 00", room=255).data
    assert bytes.fromhex("01140004 00000002") in data
    assert bytes.fromhex("01150004 00000010") in data


def test_what_is_not_known_of_the_port_is_left_out_of_the_identification() -> None:
    """SPC-5 7.7.6.1: designators are of what there is; a group is known without its relative port."""
    ports = Ports()
    ports.place = None, 0x10
    data = play(unit_with(ports), "12 01 83 00ff 00", room=255).data
    assert bytes.fromhex("01140004") not in data
    assert bytes.fromhex("01150004 00000010") in data
