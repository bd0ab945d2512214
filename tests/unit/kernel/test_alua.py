"""Files as Linux 6.1 shows them (drivers/target/target_core_configfs.c); expected bytes are SPC-5's."""

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest

from tcmu_runner.kernel.alua import PortGroups
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.ports import AccessState, TargetPortGroup
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.unit import Capabilities, Unit

from .tree import make_backstore, write_all

GROUP = {
    "alua_access_state": "0\n",
    "alua_access_status": "None\n",
    "alua_access_type": "Implicit and Explicit\n",
    "alua_support_active_nonoptimized": "1\n",
    "alua_support_active_optimized": "1\n",
    "alua_support_lba_dependent": "0\n",
    "alua_support_offline": "1\n",
    "alua_support_standby": "1\n",
    "alua_support_transitioning": "1\n",
    "alua_support_unavailable": "1\n",
    "alua_write_metadata": "0\n",
    "implicit_trans_secs": "0\n",
    "members": "",
    "nonop_delay_msecs": "100\n",
    "preferred": "0\n",
    "tg_pt_gp_id": "0\n",
    "trans_delay_msecs": "0\n",
}
IQN = "iqn.2026-11.com.example:target0"
ISCSI = f"iSCSI/{IQN}/tpgt_1/lun_0"
LOOPBACK = "loopback/naa.5001405000000100/tpgt_1/lun_0"


class Lio:
    """A backstore, its groups, and LUNs of fabrics."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.directory = make_backstore(paths)
        self.groups = PortGroups(self.directory, paths.target)

    def group(self, name: str, *members: str, number: int = 0, **files: str) -> Path:
        texts = {key: f"{text}\n" for key, text in files.items()}
        listed = "".join(f"{member}\n\0" for member in members)
        every = {**GROUP, "tg_pt_gp_id": f"{number}\n", "members": listed, **texts}
        return write_all(self.directory / "alua" / name, every)

    def port(self, member: str, number: int, enable: str = "") -> str:
        """enable: some fabrics have no such file."""
        fabric, wwn, group, lun = member.split("/")
        files = {
            f"lun/{lun}/statistics/scsi_port/indx": f"{number}\n",
            **({"enable": enable} if enable else {}),
        }
        write_all(self.paths.target / fabric.lower() / wwn / group, files)
        return member


@pytest.fixture
def lio(paths: Paths) -> Lio:
    return Lio(paths)


@pytest.fixture
def exported(lio: Lio) -> Lio:
    """Through tcm_loop and through iSCSI, both in the default group."""
    lio.group("default_tg_pt_gp", lio.port(LOOPBACK, 1), lio.port(ISCSI, 2, "1\n"))
    return lio


def answer(lio: Lio, cdb: str, data: bytes = b"", size: int = 256) -> bytes:
    """What a unit over these groups answers to a command."""
    unit = Unit(512, 1 << 20, DISK, Capabilities(write=True), ports=lio.groups)
    buffer = bytearray(data or bytes(size))
    command = Command(bytes.fromhex(cdb), [memoryview(buffer)], Nexus())
    plan = unit.begin(command)
    assert not isinstance(plan, Operation)
    assert list(plan or ()) == []
    return bytes(buffer)


def test_a_group_as_lio_has_it_by_default(exported: Lio) -> None:
    (group,) = exported.groups.groups()
    every = frozenset(AccessState) - {AccessState.LBA_DEPENDENT}
    assert group == TargetPortGroup(0, [1, 2], AccessState.ACTIVE_OPTIMIZED, every, preferred=False, status=0)
    assert (exported.groups.implicit, exported.groups.explicit) == (True, True)
    assert exported.groups.transition_seconds == 0


def test_report_target_port_groups(exported: Lio) -> None:
    second = exported.port("iSCSI/iqn.2026-11.com.example:target1/tpgt_2/lun_3", 3)
    exported.group(
        "other", second, number=0x1234,
        alua_access_state="2", preferred="1", alua_access_status="Altered by Explicit STPG",
        alua_support_lba_dependent="1", alua_support_offline="0",
    )  # fmt: skip
    reply = answer(exported, "a30a 00000000 00000100 0000")
    # SPC-5 table 303 (length), then for each group table 305: PREF and state, supported states T O r LBD U S
    # AN AO, group, reserved, status code, vendor, count; ports as in table 309
    assert reply[:32] == bytes.fromhex(
        "0000001c 00cf0000 00000002 00000001 00000002 829f1234 00010001 00000003"
    )


def test_a_group_without_ports_is_not_reported(exported: Lio) -> None:
    exported.group("standby_here", number=7, alua_access_state="2")
    assert [group.id for group in exported.groups.groups()] == [0]


@pytest.mark.parametrize(
    ("text", "code"), [("None", 0), ("Altered by Explicit STPG", 1), ("Altered by Implicit ALUA", 2)]
)
def test_why_a_state_is_what_it_is(lio: Lio, text: str, code: int) -> None:
    """SPC-5 table 308."""
    lio.group("default_tg_pt_gp", lio.port(ISCSI, 1), alua_access_status=text)
    assert lio.groups.groups()[0].status == code


@pytest.mark.parametrize(
    ("kind", "implicit", "explicit"),
    # LIO takes no state from configfs for a group without the implicit kind
    [("None", 0, 0), ("Implicit", 1, 0), ("Explicit", 0, 0), ("Implicit and Explicit", 1, 1)],
)
def test_access_types(lio: Lio, kind: str, implicit: int, explicit: int) -> None:
    lio.group("default_tg_pt_gp", lio.port(ISCSI, 1), alua_access_type=kind)
    assert (lio.groups.implicit, lio.groups.explicit) == (implicit, explicit)
    tpgs = answer(lio, "1200 00 0060 00", size=96)[5] >> 4 & 0b11  # SPC-5 table 151
    assert tpgs == implicit | explicit << 1


def test_one_group_that_cannot_be_set_is_enough(exported: Lio) -> None:
    exported.group("other", exported.port(f"{ISCSI}1", 3), number=1, alua_access_type="Implicit")
    assert exported.groups.implicit
    assert not exported.groups.explicit


def test_a_worker_of_another_user_cannot_set_states(exported: Lio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    assert exported.groups.implicit
    assert not exported.groups.explicit
    with pytest.raises(ScsiError) as refusal:
        answer(exported, "a40a 00000000 00000008 0000", bytes.fromhex("00000000 02000000"))
    assert (refusal.value.sense.key, refusal.value.sense.asc) == (0x5, 0x20)  # INVALID COMMAND OPERATION CODE
    assert answer(exported, "a30a 00000000 00000100 0000")[:4] == bytes.fromhex("00000010")


def test_set_target_port_groups(exported: Lio) -> None:
    answer(exported, "a40a 00000000 00000008 0000", bytes.fromhex("00000000 02000000"))
    group = exported.directory / "alua/default_tg_pt_gp"
    assert (group / "alua_access_state").read_text() == "2"  # standby
    assert (group / "alua_access_status").read_text() == "1"  # by SET TARGET PORT GROUPS


def test_a_state_the_kernel_does_not_take(exported: Lio, caplog: pytest.LogCaptureFixture) -> None:
    (exported.directory / "alua/default_tg_pt_gp/alua_access_state").unlink()
    (exported.directory / "alua/default_tg_pt_gp/alua_access_state").mkdir()
    with caplog.at_level(logging.WARNING), pytest.raises(OSError) as refusal:
        exported.groups.set_state(0, AccessState.STANDBY)
    assert refusal.value.errno == errno.EISDIR
    (line,) = caplog.messages
    assert line.startswith("user_0/vol0: cannot set target port group default_tg_pt_gp: Is a directory")
    assert "STANDBY" in line
    caplog.clear()


def test_a_group_that_went_cannot_be_set(exported: Lio) -> None:
    with pytest.raises(FileNotFoundError, match="user_0/vol0: no target port group 9"):
        exported.groups.set_state(9, AccessState.STANDBY)


def test_the_longest_implicit_transition_counts(exported: Lio) -> None:
    exported.group("other", exported.port(f"{ISCSI}1", 3), number=1, implicit_trans_secs="42")
    assert exported.groups.transition_seconds == 42
    # extended header (SPC-5 table 304): format 001b, then IMPLICIT TRANSITION TIME
    assert answer(exported, "a32a 00000000 00000100 0000")[4:8] == bytes.fromhex("102a0000")


# -- over which port a command came ---------------------------------------------------------------------


def test_the_only_port_is_known(lio: Lio) -> None:
    lio.group("mine", lio.port(ISCSI, 5, "1\n"), number=3)
    assert lio.groups.here(Nexus()) == (5, 3)
    page = answer(lio, "1201 83 00ff 00")
    # relative target port and target port group designators (SPC-5 7.7.6.7 and 7.7.6.8)
    assert bytes.fromhex("01140004 00000005 01150004 00000003") in page


def test_of_several_ports_in_one_group_the_group_is_known(exported: Lio) -> None:
    assert exported.groups.here(Nexus()) == (None, 0)
    page = answer(exported, "1201 83 00ff 00")
    assert bytes.fromhex("01150004 00000000") in page
    assert bytes.fromhex("01140004") not in page


def test_of_ports_in_several_groups_nothing_is_known(exported: Lio) -> None:
    exported.group("other", exported.port(f"{ISCSI}1", 3), number=1)
    assert exported.groups.here(Nexus()) is None
    assert bytes.fromhex("01150004") not in answer(exported, "1201 83 00ff 00")


def test_ports_of_another_node_carry_no_command(lio: Lio) -> None:
    """A cluster shows the other nodes' ports as portal groups that are switched off here."""
    lio.group("here", lio.port(ISCSI, 1, "1\n"), number=1)
    lio.group("there", lio.port(f"iSCSI/{IQN}/tpgt_2/lun_0", 2, "0\n"), number=2, alua_access_state="1")
    assert lio.groups.here(Nexus()) == (1, 1)
    assert [(group.id, group.ports) for group in lio.groups.groups()] == [(1, [1]), (2, [2])]


# -- what is not there ----------------------------------------------------------------------------------


def test_a_kernel_that_keeps_no_groups_for_the_device(lio: Lio) -> None:
    lio.group("default_tg_pt_gp")
    assert (lio.groups.implicit, lio.groups.explicit, lio.groups.groups()) == (False, False, [])
    assert lio.groups.here(Nexus()) is None


def test_a_backstore_that_went(exported: Lio) -> None:
    shutil.rmtree(exported.directory)
    assert (exported.groups.implicit, exported.groups.explicit, exported.groups.groups()) == (
        False,
        False,
        [],
    )
    assert exported.groups.here(Nexus()) is None


@pytest.mark.parametrize("file", ["alua_access_state", "tg_pt_gp_id", "alua_access_status"])
def test_a_group_that_goes_while_it_is_read(exported: Lio, file: str) -> None:
    (exported.group("other", exported.port(f"{ISCSI}1", 3), number=1) / file).unlink()
    assert [group.id for group in exported.groups.groups()] == [0]


def test_a_lun_that_goes_while_it_is_read(exported: Lio) -> None:
    shutil.rmtree(exported.paths.target / "loopback")
    assert exported.groups.groups()[0].ports == [2]


def test_a_state_nobody_knows(exported: Lio) -> None:
    exported.group("default_tg_pt_gp", LOOPBACK, alua_access_state="9")  # reserved (SPC-5 table 306)
    assert exported.groups.groups() == []


def test_the_relative_port_is_of_the_portal_group_since_linux_6_5(lio: Lio) -> None:
    """Before, each LUN of a portal group had one of its own."""
    lio.group("default_tg_pt_gp", lio.port(LOOPBACK, 1), lio.port(ISCSI, 2, "1\n"))
    for member, number in ((LOOPBACK, "0x3\n"), (ISCSI, "4\n")):
        fabric, wwn, group, _ = member.split("/")
        (lio.paths.target / fabric.lower() / wwn / group / "rtpi").write_text(number)
    (reported,) = lio.groups.groups()
    assert reported.ports == [3, 4]
