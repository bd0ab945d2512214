"""What `doctor` finds, on a tree of files that imitates the kernel's. That its advice works, the virtual
machine shows: tests/vm/test_doctor.py."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dbus.shelf import a_device

from tcmu_runner.cli import symptoms
from tcmu_runner.cli.symptoms import Finding, Holder, Patient
from tcmu_runner.engine.statistics import Snapshot
from tcmu_runner.engine.view import DeviceView, State
from tcmu_runner.errors import DeviceError
from tcmu_runner.kernel.paths import Paths

from .conftest import Command


def nothing() -> list[DeviceView]:
    return []


def unreachable() -> list[DeviceView]:
    raise DeviceError("cannot reach the system bus")


def absent(*argv: str) -> str:
    raise OSError(f"{argv[0]}: no such program")


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A healthy machine."""
    paths = Paths.under(tmp_path)
    (paths.module / symptoms.MODULE / "parameters").mkdir(parents=True)
    (paths.module / symptoms.MODULE / "parameters/block_netlink").write_text("unblocked\n")
    paths.target.mkdir(parents=True)
    (paths.proc / "self").mkdir(parents=True)
    (paths.proc / "self/mounts").write_text(f"none {paths.configfs} configfs rw 0 0\n")
    return Patient(nothing, paths, tmp_path / "lock", absent)


def test_a_healthy_machine(patient: Patient) -> None:
    found = [symptoms.module(patient), symptoms.configfs(patient), symptoms.netlink(patient)]
    assert all(each.fine for each in [*found, symptoms.waiters(patient)])


def test_the_module_is_missing(patient: Patient) -> None:
    (patient.paths.module / symptoms.MODULE).rename(patient.paths.module / "other")
    assert "as Debian's linux-image-cloud" in symptoms.module(patient).told
    there = symptoms.module(replace(patient, run=lambda *_: ""))
    assert (there.fine, there.fix) == (False, ("modprobe target_core_user",))


def test_configfs_is_missing(patient: Patient) -> None:
    patient.paths.target.rmdir()
    assert "LIO's directory" in symptoms.configfs(patient).told
    (patient.paths.proc / "self/mounts").write_text("none /sys sysfs rw 0 0\n")
    found = symptoms.configfs(patient)
    assert found.fix == (f"mount -t configfs none {patient.paths.configfs}",)


def test_netlink_is_blocked(patient: Patient) -> None:
    gate = patient.paths.module / symptoms.MODULE / "parameters/block_netlink"
    gate.write_text("blocked\n")
    found = symptoms.netlink(patient)
    assert (found.fine, found.fix) == (False, (f"echo 0 > {gate}",))


def test_who_waits_for_a_daemon_is_named(patient: Patient) -> None:
    process = patient.paths.proc / "4711"
    process.mkdir()
    (process / "stack").write_text("[<0>] tcmu_netlink_event_send+0x1a3/0x2d0 [target_core_user]\n")
    (process / "comm").write_text("targetctl\n")
    found = symptoms.waiters(patient)
    assert (found.fine, "targetctl (4711)" in found.told, found.fix) == (False, True, symptoms.RELEASE)


def test_no_backstore_is_looked_at_while_somebody_waits(patient: Patient) -> None:
    """That look would sleep, too."""
    test_who_waits_for_a_daemon_is_named(patient)
    patient.paths.uio.mkdir(parents=True)
    findings = list(symptoms.examine(replace(patient, devices=lambda: [a_device()])))
    assert "user_0/vol0" not in [each.what for each in findings]


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@pytest.mark.parametrize(
    ("program", "ours"), [("/usr/bin/python3.11", True), ("/usr/bin/tcmu-runner", False), ("unknown", False)]
)
def test_whose_daemon_it_is(program: str, ours: bool) -> None:
    assert Holder(1, program).ours is ours


def test_the_holder_of_the_lock(patient: Patient) -> None:
    assert symptoms.lock_holder(patient.lock) is None
    command = [sys.executable, "-c", HOLD, str(patient.lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        holder = symptoms.lock_holder(patient.lock)
        process.communicate(b"\n")
    assert holder is not None
    assert (holder.pid, holder.ours) == (process.pid, True)
    assert symptoms.lock_holder(patient.lock) is None
    with patient.lock.open("w") as lock:  # of this very process, which would not be in its own way
        fcntl.lockf(lock, fcntl.LOCK_EX)


def test_the_daemon(patient: Patient) -> None:
    assert symptoms.daemon(patient, None).fix == ("systemctl start tcmu-runner",)
    other = symptoms.daemon(patient, Holder(4711, "/usr/bin/tcmu-runner"))
    assert other.told == "another daemon serves this machine: /usr/bin/tcmu-runner, process 4711"
    assert other.fix == ("kill 4711", "systemctl start tcmu-runner")
    ours = Holder(os.getpid(), sys.executable)
    assert symptoms.daemon(patient, ours).fine
    deaf = symptoms.daemon(replace(patient, devices=unreachable), ours)
    assert (deaf.fine, "cannot reach the system bus" in deaf.told) == (False, True)


def test_units_that_do_not_start_at_boot(patient: Patient) -> None:
    states = {"tcmu-runner.service": "masked\n", "rtslib-fb-targetctl.service": "disabled\n"}
    run: Callable[..., str] = lambda *argv: states[argv[-1]]  # noqa: E731
    found = list(symptoms.unit(replace(patient, run=run)))
    assert found[0].fix == ("systemctl unmask tcmu-runner.service", "systemctl enable tcmu-runner.service")
    assert found[1].told == "disabled: saved LUNs are not restored at boot"
    assert list(symptoms.unit(patient)) == []  # no systemd here


@pytest.mark.parametrize(
    ("state", "oldest", "told"),
    [
        (State.SERVING, 0.5, "serving"),
        (State.SERVING, 31.0, "its storage does not answer: a command waits for 31 s"),
        (State.STOPPED, 0.0, "drained: initiators wait"),
        (State.WAITING, 0.0, "waiting: its storage is away"),
    ],
)
def test_devices(patient: Patient, state: State, oldest: float, told: str) -> None:
    view = replace(
        a_device(), state=state, last_error="its storage is away", statistics=Snapshot(1, oldest, (), {})
    )
    patient.paths.uio.mkdir(parents=True)
    (found,) = symptoms.devices(replace(patient, devices=lambda: [view]))
    fine = told == "serving"
    fix = () if fine else ("tcmu-runner restart user_0/vol0",)
    assert found == Finding("user_0/vol0", told, fine, fix)


def test_findings_are_printed_with_their_fix(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("kernel module", "not loaded", False, ("modprobe target_core_user",))
    found = [Finding("user", "root"), broken]
    monkeypatch.setattr("tcmu_runner.cli.doctor.examine", lambda _patient: iter(found))
    status, text, _ = command("doctor")
    assert status == 1
    assert text.splitlines()[:3] == [
        "ok    user: root",
        "WRONG kernel module: not loaded",
        "      fix: modprobe target_core_user",
    ]
    assert json.loads(command("doctor", "--json")[1])[1]["fix"] == ["modprobe target_core_user"]
    del found[1]
    assert command("doctor")[0] == 0
