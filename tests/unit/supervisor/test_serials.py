"""Serials of LUNs that have none in LIO: unique in the world, the same after restarts and reboots, and those
that initiators know from earlier versions stay."""

from pathlib import Path

import pytest
from kernel.tree import SERIAL, make_backstore

from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.configfs import Backstore
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.supervisor.serials import Serials, Twins, twins

BEFORE = "c6d22681-fe7c-5170-afd3-3ea14c75d4fa"  # what earlier versions made of user_0/vol0
NONE = "T10 VPD Unit Serial Number: \n"


class Machine:
    def __init__(self, directory: Path, machine_id: str = "7f4b4c1e1d1f4f0f9d1c2f3a4b5c6d7e") -> None:
        self.paths = Paths.under(directory)
        self.record = directory / "lib/serials.json"
        self.machine_id = directory / "machine-id"
        directory.mkdir(exist_ok=True)
        self.machine_id.write_text(f"{machine_id}\n")

    def start(self, *, settled: bool = True) -> Serials:
        """The daemon's start, on a machine that it has found all devices of unless it is not `settled`."""
        serials = Serials(self.record, self.machine_id)
        if settled:
            serials.settle()
        return serials

    def make(self, hba: int = 0, device: str = "vol0", serial: str = NONE) -> Backstore:
        (make_backstore(self.paths, hba, device) / "wwn/vpd_unit_serial").write_text(serial)
        return Backstore(hba, device, self.paths)

    def kernel(self, store: Backstore) -> str:
        return store.serial()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def test_what_lio_has_counts(machine: Machine) -> None:
    store, serials = machine.make(serial=f"T10 VPD Unit Serial Number: {SERIAL}\n"), machine.start()
    serials.give(store, existed=False)
    assert serials.of(store.name) == SERIAL


def test_the_kernel_gets_it_so_that_targetcli_saves_it(machine: Machine) -> None:
    store, serials = machine.make(), machine.start()
    serials.give(store, existed=False)
    assert machine.kernel(store) == serials.of("user_0/vol0") != ""


def test_two_machines_have_different_ones_for_one_name(tmp_path: Path) -> None:
    given = set()
    for name, machine_id in (("one", "1" * 32), ("other", "2" * 32)):
        machine = Machine(tmp_path / name, machine_id)
        store, serials = machine.make(), machine.start()
        serials.give(store, existed=False)
        given.add(serials.of(store.name))
    assert len(given) == 2


def test_after_a_reboot_it_is_the_same_whatever_the_hba(machine: Machine) -> None:
    """rtslib numbers HBAs in the order in which it restores."""
    before, after = machine.start(), machine.start()
    before.give(machine.make(0), existed=False)
    after.give(machine.make(2), existed=False)
    assert before.of("user_0/vol0") == after.of("user_2/vol0")


def test_one_name_below_two_hbas(machine: Machine) -> None:
    serials = machine.start()
    serials.give(machine.make(0), existed=False)
    serials.give(machine.make(1), existed=False)
    assert serials.of("user_0/vol0") != serials.of("user_1/vol0")
    again = machine.start()  # the daemon alone: the kernel has them
    again.give(Backstore(1, "vol0", machine.paths), existed=True)
    assert again.of("user_1/vol0") == serials.of("user_1/vol0")
    again.forget("user_1/vol0")
    assert again.of("user_1/vol0") == ""


def exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then refuses another serial."""

    def refuse(path: Path, _text: str) -> None:
        raise OSError(22, "Invalid argument", str(path))

    monkeypatch.setattr(sysfs, "write", refuse)


def test_an_upgrade_changes_no_serial_that_initiators_know(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, serials = machine.make(), machine.start(settled=False)
    with monkeypatch.context() as patch:
        exported(patch)
        serials.give(store, existed=True)
    serials.settle()
    assert (serials.of(store.name), machine.kernel(store)) == (BEFORE, "")
    reboot = machine.start()
    reboot.give(machine.make(3), existed=False)
    assert reboot.of("user_3/vol0") == BEFORE
    reboot.give(machine.make(4), existed=False)
    assert reboot.of("user_4/vol0") not in ("", BEFORE)


def test_a_lun_made_before_a_later_start_is_none_that_was_served(machine: Machine) -> None:
    machine.start()
    serials = machine.start(settled=False)
    serials.give(machine.make(), existed=True)
    assert serials.of("user_0/vol0") != BEFORE


def test_without_a_machine_id_it_is_random_and_recorded(machine: Machine) -> None:
    machine.machine_id.unlink()
    before = machine.start()
    before.give(machine.make(0), existed=False)
    before.give(machine.make(0, "other"), existed=False)
    assert before.of("user_0/vol0") != before.of("user_0/other")
    after = machine.start()
    after.give(machine.make(1), existed=False)
    assert after.of("user_1/vol0") == before.of("user_0/vol0")


def test_a_record_that_cannot_be_written_or_read(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.record.parent.write_text("no directory")
    machine.machine_id.unlink()
    serials = machine.start()
    serials.give(machine.make(), existed=False)
    assert serials.of("user_0/vol0")
    assert "serials.json cannot be written" in caplog.text
    machine.record.parent.unlink()
    machine.record.parent.mkdir()
    machine.record.write_text("{")
    caplog.clear()
    machine.start()
    assert "serials.json cannot be read" in caplog.text
    caplog.clear()


def test_serials_that_share_their_digits_are_found(machine: Machine) -> None:
    """NAA takes the hexadecimal digits alone: both are 3."""
    prefix = "T10 VPD Unit Serial Number: "
    machine.make(0, "one", f"{prefix}vol3\n")
    machine.make(1, "two", f"{prefix}sum-3\n")
    machine.make(2, "three", f"{prefix}4\n")
    machine.make(3, "none")
    assert twins(machine.paths) == [("60014053000000000000000000000000", ["user_0/one", "user_1/two"])]


def test_a_pair_is_told_of_once(machine: Machine) -> None:
    prefix = "T10 VPD Unit Serial Number: "
    machine.make(0, "one", f"{prefix}3\n")
    two = machine.make(1, "two", f"{prefix}3\n")
    told = Twins(machine.paths)
    assert "same identifier as user_1/two, naa.6001405" in told.new()["user_0/one"]
    assert told.new() == {}
    two.set_serial("4")
    assert told.new() == {}
    two.set_serial("3")
    assert set(told.new()) == {"user_0/one", "user_1/two"}


def test_a_name_of_any_bytes(machine: Machine) -> None:
    store, serials = machine.make(device=b"n\xe4me".decode(errors="surrogateescape")), machine.start()
    serials.give(store, existed=True)
    assert machine.kernel(store) == serials.of(store.name) != ""
