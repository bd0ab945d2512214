"""What `doctor` finds, on a tree of files that imitates the kernel's. That its advice works, the virtual
machine shows: tests/vm/test_doctor.py."""

import argparse
import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from dbus.shelf import a_device

from tcmu_runner.cli import diagnosis, doctor
from tcmu_runner.cli.daemon_client import ask
from tcmu_runner.cli.diagnosis import Holder
from tcmu_runner.cli.finding import Finding, Host
from tcmu_runner.engine.observe.statistics import Snapshot
from tcmu_runner.engine.observe.view import DeviceView, State
from tcmu_runner.errors import DeviceError
from tcmu_runner.guardian.unlinking import Unlinking
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.uio import DeviceName, UioEntry
from tcmu_runner.settings import tcmu_conf

from .conftest import Command


def nothing() -> list[DeviceView]:
    return []


def unreachable() -> list[DeviceView]:
    raise DeviceError("cannot reach the system bus")


def absent(*argv: str) -> str:
    raise OSError(f"{argv[0]}: no such program")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A healthy machine."""
    paths = Paths.under(tmp_path)
    (paths.module / diagnosis.MODULE / "parameters").mkdir(parents=True)
    (paths.module / diagnosis.MODULE / "parameters/block_netlink").write_text("unblocked\n")
    paths.target.mkdir(parents=True)
    (paths.proc / "self").mkdir(parents=True)
    (paths.proc / "self/mounts").write_text(f"none {paths.configfs} configfs rw 0 0\n")
    return Host(nothing, paths, tmp_path / "lock", absent, saved=lambda: tmp_path)


def test_a_healthy_machine(host: Host) -> None:
    found = [diagnosis.module(host), diagnosis.configfs(host), diagnosis.netlink(host)]
    assert all(each.fine for each in [*found, diagnosis.waiters(host, None)])


def test_the_module_is_missing(host: Host) -> None:
    (host.paths.module / diagnosis.MODULE).rename(host.paths.module / "other")
    assert "as Debian's linux-image-cloud" in diagnosis.module(host).told
    there = diagnosis.module(replace(host, run=lambda *_: ""))
    assert (there.fine, there.fix) == (False, ("modprobe target_core_user",))


def test_configfs_is_missing(host: Host) -> None:
    host.paths.target.rmdir()
    assert "LIO's directory" in diagnosis.configfs(host).told
    (host.paths.proc / "self/mounts").write_text("none /sys sysfs rw 0 0\n")
    found = diagnosis.configfs(host)
    assert found.fix == (f"mount -t configfs none {host.paths.configfs}",)


def test_where_luns_are_saved_is_missing(host: Host, tmp_path: Path) -> None:
    """Debian's python3-rtslib-fb alone does not bring it, and `create` would fail."""
    assert diagnosis.saved(host).fine
    found = diagnosis.saved(replace(host, saved=lambda: tmp_path / "target"))
    assert (found.fine, found.told.split(":")[0]) == (False, f"{tmp_path}/target is missing")
    for line in found.fix:
        subprocess.run(line.split(), check=True)
    assert diagnosis.saved(replace(host, saved=lambda: tmp_path / "target")).fine


def test_rtslib_is_missing(host: Host) -> None:
    def absent() -> Path:
        raise DeviceError("this needs the library rtslib-fb")

    found = diagnosis.saved(replace(host, saved=absent))
    assert (found.fine, found.fix) == (False, ("apt install python3-rtslib-fb",))


def test_two_backstores_of_one_identifier(host: Host) -> None:
    """Also one that another driver serves: to initiators all are LIO's."""
    for name in ("user_0/vol0", "fileio_1/other"):
        file = host.paths.target / "core" / name / "wwn/vpd_unit_serial"
        file.parent.mkdir(parents=True)
        file.write_text("T10 VPD Unit Serial Number: vol-3\n")
    (found,) = diagnosis.identifiers(host)
    assert (found.what, found.fine) == ("fileio_1/other and user_0/vol0", False)
    assert "naa.6001405300" in found.told


def test_netlink_is_blocked(host: Host) -> None:
    gate = host.paths.module / diagnosis.MODULE / "parameters/block_netlink"
    gate.write_text("blocked\n")
    found = diagnosis.netlink(host)
    assert (found.fine, found.fix) == (False, (f"echo 0 > {gate}",))


def test_who_waits_for_a_daemon_is_named(host: Host) -> None:
    process = host.paths.proc / "4711"
    process.mkdir()
    (process / "stack").write_text("[<0>] tcmu_netlink_event_send+0x1a3/0x2d0 [target_core_user]\n")
    (process / "comm").write_text("targetctl\n")
    found = diagnosis.waiters(host, None)
    assert (found.fine, "targetctl (4711)" in found.told) == (False, True)
    assert found.fix == ("tcmu-runner release",)
    found = diagnosis.waiters(host, Holder(1, "/usr/bin/python3"))
    assert found.fix == diagnosis.RELEASE_BY_HAND


@pytest.mark.parametrize(
    ("holder", "told", "fix"),
    [
        (None, "18 minutes without a daemon", ("systemctl start tcmu-runner",)),
        (Holder(1, "/usr/bin/python3"), "until the storage has flushed", ()),
    ],
)
def test_who_unlinks_a_lun_is_named(
    host: Host, holder: Holder | None, told: str, fix: tuple[str, ...]
) -> None:
    assert diagnosis.unlinkings(host, holder).fine
    process = host.paths.proc / "4711"
    process.mkdir()
    (process / "stack").write_text("[<0>] tcm_loop_port_unlink+0x6f/0x89 [tcm_loop]\n")
    (process / "comm").write_text("rm\n")
    found = diagnosis.unlinkings(host, holder)
    assert (found.fine, "rm (4711)" in found.told, told in found.told) == (False, True, True)
    assert found.fix == fix


def test_release_can_end_the_unlinking_of_a_lun_that_is_known(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not where the device has no ALUA."""
    vol0 = Unlinking(UioEntry(0, DeviceName(0, "vol0", "ram/")), shared=False)
    monkeypatch.setattr(diagnosis, "sleepers", lambda *_: ["rm (4711)"])
    monkeypatch.setattr(diagnosis, "unlinking", lambda _paths: [vol0])
    found = diagnosis.unlinkings(host, None)
    assert found.told.startswith("user_0/vol0: rm (4711) waits")
    assert found.fix == ("systemctl start tcmu-runner || tcmu-runner release",)


def test_no_backstore_is_looked_at_while_somebody_waits(host: Host) -> None:
    """That look would sleep, too."""
    test_who_waits_for_a_daemon_is_named(host)
    host.paths.uio.mkdir(parents=True)
    findings = list(diagnosis.examine(replace(host, devices=lambda: [a_device()])))
    assert "user_0/vol0" not in [each.what for each in findings]


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@contextmanager
def held(lock: Path) -> Iterator[int]:
    """Locked by another process, of this pid."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize(
    ("program", "ours"), [("/usr/bin/python3.11", True), ("/usr/bin/tcmu-runner", False), ("unknown", False)]
)
def test_whose_daemon_it_is(program: str, ours: bool) -> None:
    assert Holder(1, program).ours is ours


def test_the_holder_of_the_lock(host: Host) -> None:
    assert diagnosis.lock_holder(host.lock) is None
    with held(host.lock) as pid:
        holder = diagnosis.lock_holder(host.lock)
    assert holder is not None
    assert (holder.pid, holder.ours) == (pid, True)
    assert diagnosis.lock_holder(host.lock) is None
    with host.lock.open("w") as lock:  # of this very process, which would not be in its own way
        fcntl.lockf(lock, fcntl.LOCK_EX)


def test_the_daemon(host: Host) -> None:
    assert diagnosis.daemon(host, None).fix == ("systemctl start tcmu-runner",)
    other = diagnosis.daemon(host, Holder(4711, "/usr/bin/tcmu-runner"))
    assert other.told == "another daemon serves this machine: /usr/bin/tcmu-runner, process 4711"
    assert other.fix == ("kill 4711", "systemctl start tcmu-runner")
    ours = Holder(os.getpid(), sys.executable)
    assert diagnosis.daemon(host, ours).fine
    deaf = diagnosis.daemon(replace(host, devices=unreachable), ours)
    assert (deaf.fine, "cannot reach the system bus" in deaf.told) == (False, True)


def test_a_daemon_that_a_signal_has_stopped_is_not_asked(host: Host) -> None:
    """It would not answer, and D-Bus waits for it without end."""
    for number, name, state in (
        (12, "tcmu-runner", "T"),
        (13, "tcmu-guardian", "T"),
        (14, "tcmu-dev:uio0", "S"),
    ):
        (host.paths.proc / str(number)).mkdir()
        (host.paths.proc / f"{number}/stat").write_text(f"{number} ({name}) {state} 1 1 1 0\n")
    found = diagnosis.daemon(replace(host, devices=unreachable), Holder(12, sys.executable))
    assert found.told == "stopped by a signal: tcmu-runner (12), tcmu-guardian (13)"
    assert (found.fine, found.fix) == (False, ("kill -CONT 12 13",))


def test_of_a_daemon_that_does_not_answer_nothing_more_is_asked(host: Host) -> None:
    asked = []

    def silent() -> list[DeviceView]:
        asked.append("devices")
        raise DeviceError("no answer within 10 s")

    list(diagnosis.examine(replace(host, devices=silent, lock=host.lock)))
    assert asked == []  # no daemon holds the lock
    with held(host.lock):
        list(diagnosis.examine(replace(host, devices=silent)))
    assert asked == ["devices"]


@pytest.mark.usefixtures("bus")
def test_a_question_to_a_daemon_that_hangs_ends() -> None:
    with pytest.raises(DeviceError, match=r"no answer within 0 s: the daemon hangs"):
        ask(lambda _daemon: asyncio.Event().wait(), seconds=0.01)


def test_a_finding_is_printed_before_the_next_question(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be one to a daemon that hangs."""

    def examine(_patient: Host) -> Iterator[Finding]:
        yield Finding("user", "root")
        assert capsys.readouterr().out == "ok    user: root\n"

    monkeypatch.setattr("tcmu_runner.cli.doctor.examine", examine)
    assert doctor.run(argparse.Namespace(json=False)) == 0


def test_units_that_do_not_start_at_boot(host: Host) -> None:
    states = {"tcmu-runner.service": "masked\n", "rtslib-fb-targetctl.service": "disabled\n"}
    run: Callable[..., str] = lambda *argv: states[argv[-1]]  # noqa: E731
    found = list(diagnosis.unit(replace(host, run=run)))
    assert found[0].fix == ("systemctl unmask tcmu-runner.service", "systemctl enable tcmu-runner.service")
    assert found[1].told == "disabled: saved LUNs are not restored at boot"
    assert list(diagnosis.unit(host)) == []  # no systemd here


@pytest.mark.parametrize(
    ("state", "oldest", "told"),
    [
        (State.SERVING, 0.5, "serving"),
        (State.SERVING, 31.0, "its storage does not answer: a command waits for 31 s"),
        (State.STOPPED, 0.0, "drained: initiators wait"),
        (State.WAITING, 0.0, "waiting: its storage is away"),
    ],
)
def test_devices(host: Host, state: State, oldest: float, told: str) -> None:
    view = replace(
        a_device(), state=state, last_error="its storage is away", statistics=Snapshot(1, oldest, (), {})
    )
    host.paths.uio.mkdir(parents=True)
    (found,) = diagnosis.devices(replace(host, devices=lambda: [view]))
    fine = told == "serving"
    fix = () if fine else ("tcmu-runner restart user_0/vol0",)
    assert found == Finding("user_0/vol0", told, fine, fix)


def test_a_device_whose_storage_fails(host: Host) -> None:
    failed = Snapshot(0, 0.0, (), {}, failure="read failed: no", failed_at=time.time() + 3600)
    host.paths.uio.mkdir(parents=True)
    views = [replace(a_device(), statistics=failed)]
    (found,) = diagnosis.devices(replace(host, devices=lambda: views))
    assert found.told == "its storage fails, 0 s ago: read failed: no"


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


def test_a_log_that_cannot_be_written(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "tcmu.conf"
    monkeypatch.setattr(tcmu_conf, "DEFAULT", conf)
    conf.write_text(f'log_dir = "{tmp_path}/absent"\n')
    found = diagnosis.log_directory()
    assert (found.fine, found.fix) == (False, (f"mkdir -p {tmp_path}/absent",))
    (tmp_path / "absent").mkdir()
    assert diagnosis.log_directory().fine
    monkeypatch.setattr(diagnosis, "LOG_BYTES", 1 << 62)
    found = diagnosis.log_directory()
    assert (found.fine, "is full" in found.told) == (False, True)


def test_what_the_daemon_knows_not_to_work(host: Host) -> None:
    found = list(diagnosis.devices(replace(host, problems=lambda: ["s3.py cannot be loaded: no boto3"])))
    assert found == [Finding("daemon", "s3.py cannot be loaded: no boto3", fine=False)]
