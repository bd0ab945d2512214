"""The commands for people, on the real LIO: what they make targetcli's library sees, saves and restores."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import disk as raw
from support.configfs import TARGET
from support.daemon import Daemon
from support.deadline import attempt, command, eventually
from support.fixtures import MIB, ExpectedLog
from support.iscsi import PORTAL, Initiator

SAVED = Path("/etc/rtslib-fb-target/saveconfig.json")
TOML = Path("/etc/tcmu/tcmu-runner.toml")
IQN = "iqn.2026-11.com.example:made"
MEDIUM_ERROR = 3  # an exit status of sg3-utils


@pytest.fixture(autouse=True)
def saved() -> Iterator[None]:
    SAVED.unlink(missing_ok=True)
    yield
    SAVED.unlink(missing_ok=True)
    TOML.unlink(missing_ok=True)


class Made:
    """A target that `create` has made, for the initiator."""

    iqn = IQN
    portal = PORTAL


def told(*words: str | Path) -> Any:
    return json.loads(command("tcmu-runner", *words, "--json"))


def refused(*words: str | Path) -> str:
    """The reason, which is all that is on standard error."""
    ended = attempt("tcmu-runner", *words)
    assert (ended.status, ended.output) == (1, ""), ended
    assert "Traceback" not in ended.errors, ended
    return ended.errors


def nothing_is_left() -> bool:
    return not any(any(TARGET.glob(made)) for made in ("core/user_*/*", "loopback/naa.*", "iscsi/iqn.*"))


def saved_names() -> list[str]:
    return [each["name"] for each in json.loads(SAVED.read_text())["storage_objects"]]


def test_a_disk_of_this_machine_from_its_beginning_to_its_end(daemon: Daemon, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    made = told("create", "vol0", "file", image, "--size", "64M", "--loopback")
    disk = Path(made["disk"])
    assert (made["size"], raw.size(disk), saved_names()) == (64 * MIB, 64 * MIB, ["vol0"])
    raw.write(disk, 4096, b"data" * 1024)

    (lun,) = told("list")
    assert (lun["name"], lun["state"], lun["exports"][0]["disk"]) == ("user_0/vol0", "serving", str(disk))
    limits = command("sg_vpd", "--page=bl", disk)
    assert "Optimal transfer length: 2048 blocks" in limits
    assert "WRITE(10)" in command("tcmu-runner", "show", "vol0")

    told("resize", "vol0", "96M")
    assert json.loads(SAVED.read_text())["storage_objects"][0]["size"] == 96 * MIB
    eventually("the new size", lambda: raw.size(disk) == 96 * MIB)
    assert "add --shrink" in refused("resize", "vol0", "64M")

    told("delete", "vol0")
    assert nothing_is_left()
    assert saved_names() == []
    assert image.read_bytes()[4096:8192] == b"data" * 1024


def test_a_lun_comes_back_as_targetcli_would_bring_it_back(daemon: Daemon, tmp_path: Path) -> None:
    (image := tmp_path / "disk.img").write_bytes(b"kept" * 1024 + bytes(8 * MIB - 4096))
    told("create", "vol0", "file", image, "--loopback")  # its size is the file's
    command("targetctl", "clear")
    assert nothing_is_left()
    command("targetctl", "restore")
    (lun,) = told("list")
    assert lun["size"] == 8 * MIB
    eventually("its disk", lambda: bool(told("list")[0]["exports"][0]["disk"]))
    disk = Path(told("list")[0]["exports"][0]["disk"])
    assert raw.read(disk, 0, 4096) == b"kept" * 1024


def test_over_iscsi_for_the_initiators_that_are_named(daemon: Daemon, tmp_path: Path) -> None:
    access = ("--iscsi", IQN, "--portal", PORTAL, "--initiator", Initiator().iqn)
    told("create", "vol0", "ram", "--size", "16M", *access)
    made = told("create", "vol1", "file", tmp_path / "b.img", "--size", "8M", *access)
    assert (made["lun"], made["portals"], made["initiators"]) == (1, [PORTAL], [Initiator().iqn])
    disk = Initiator().login(Made(), lun=1)
    raw.write(disk, 0, b"over" * 1024)
    assert raw.size(disk) == 8 * MIB
    assert f"initiator {Initiator().iqn} is logged in to {IQN}; end that first" in refused("delete", "vol1")
    Initiator().logout(Made())
    assert told("delete", "vol1") == {"name": "user_1/vol1", "empty_targets": []}
    assert told("delete", "vol0") == {"name": "user_0/vol0", "empty_targets": [f"iscsi {IQN}"]}
    assert (tmp_path / "b.img").read_bytes()[:4] == b"over"


def test_a_target_that_exists_is_not_opened_to_others(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is not is refused; an initiator that is not named does not see the LUN."""
    monkeypatch.setenv("CHAP_SECRET", "a secret of length")
    mine, other = Initiator().iqn, "iqn.2026-11.com.example:other"
    told("create", "vol0", "ram", "--size", "8M", "--iscsi", IQN, "--portal", PORTAL, "--initiator", mine)
    more = ("create", "vol1", "ram", "--size", "8M", "--iscsi", IQN)
    assert f"has these initiators: {mine}. who may log in?" in refused(*more)
    assert "admits initiators by name only" in refused(*more, "--any-initiator")
    assert f"listens on {PORTAL}, not on [::1]:3260" in refused(
        *more, "--initiator", mine, "--portal", "[::1]:3260"
    )
    assert "does not demand CHAP" in refused(*more, "--initiator", other, "--user", "alice")
    assert told("list")[0]["name"] == "user_0/vol0"
    made = told(*more, "--initiator", other)
    assert (made["portals"], made["initiators"], made["chap"]) == ([PORTAL], [other], False)
    rules = TARGET / "iscsi" / IQN / "tpgt_1/acls"
    assert [path.name for path in (rules / mine).glob("lun_*")] == ["lun_0"]
    assert [path.name for path in (rules / other).glob("lun_*")] == ["lun_1"]


def test_an_open_target_is_called_open(daemon: Daemon) -> None:
    access = ("--iscsi", IQN, "--portal", PORTAL)
    told("create", "vol0", "ram", "--size", "8M", *access, "--any-initiator")
    more = ("create", "vol1", "ram", "--size", "8M", *access)
    assert "admits any initiator" in refused(*more, "--initiator", Initiator().iqn)
    assert told(*more, "--any-initiator")["anybody"]


def test_where_nothing_was_ever_saved(daemon: Daemon) -> None:
    """Debian's python3-rtslib-fb alone does not bring the directory."""
    kept = SAVED.parent.with_suffix(".kept")
    SAVED.parent.rename(kept)
    try:
        assert f"{SAVED.parent} is missing" in attempt("tcmu-runner", "doctor").output
        told("create", "vol0", "ram", "--size", "8M")
        assert saved_names() == ["vol0"]
    finally:
        command("rm", "-rf", SAVED.parent)
        kept.rename(SAVED.parent)


def disk_of(name: str) -> Path:
    """By what `list` says, whatever the HBA."""

    def found() -> str:
        (lun,) = (each for each in told("list") if each["name"].endswith(f"/{name}"))
        return str(lun["exports"][0]["disk"])

    eventually(f"the disk of {name}", lambda: bool(found()))
    return Path(found())


def serial_of(name: str) -> str:
    (file,) = TARGET.glob(f"core/user_*/{name}/wwn/vpd_unit_serial")
    return file.read_text()


def test_a_lun_is_itself_after_a_reboot(daemon: Daemon, tmp_path: Path) -> None:
    """LIO's tools number HBAs in the order in which they restore: data of filters, settings and identity go
    by the LUN's name."""
    TOML.parent.mkdir(exist_ok=True)
    filters = f'filters = [{{ filter = "cow", directory = "{tmp_path}" }}]'
    TOML.write_text(f'[stacks.ov]\nhandler = "file"\n{filters}\n[devices."user_2/c"]\nvendor = "ACME"\n')
    eventually("the stack", lambda: '"ov"' in command("tcmu-runner", "handlers", "--json"))
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.img").write_bytes(bytes(8 * MIB))
        told("create", name, "ov", tmp_path / f"{name}.img", "--loopback")
        raw.write(disk_of(name), 0, name.encode() * 4096)
    told("delete", "a")
    before = {name: serial_of(name) for name in ("b", "c")}
    names = {each["name"] for each in told("list")}
    command("targetctl", "clear")
    daemon.stop()
    daemon.start()
    command("targetctl", "restore")
    assert {each["name"] for each in told("list")} != names, "this order shows nothing: make another one"
    for name in ("b", "c"):
        assert raw.read(disk_of(name), 0, 4096) == name.encode() * 4096
        assert serial_of(name) == before[name]
    assert "ACME" in command("sg_inq", disk_of("c"))
    assert sorted(path.name for path in tmp_path.glob("*.cow")) == ["a.cow", "b.cow", "c.cow"]


def test_what_the_handler_refuses_is_told_with_its_reason_and_leaves_nothing(
    daemon: Daemon, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    expected_log(r"user_\d/vol0 .*: refused: .*does not exist: create it")
    missing = tmp_path / "missing/disk.img"
    reason = refused("create", "vol0", "file", missing, "--size", "8M", "--loopback")
    assert "vol0: refused: " in reason
    assert "does not exist: create it, or correct the path" in reason
    assert nothing_is_left()
    assert not SAVED.exists()


def test_what_is_wrong_is_told_before_anything_is_made(daemon: Daemon, tmp_path: Path) -> None:
    assert "path 'disk.img' is not absolute" in refused("create", "vol0", "file", "disk.img", "--size", "8M")
    assert "no handler 'fil'; there are: " in refused("create", "vol0", "fil", "x", "--size", "8M")
    assert "add --size 10G" in refused("create", "vol0", "file", tmp_path / "new.img")
    assert "--initiator is for --iscsi" in refused(
        "create", "vol0", "ram", "--size", "8M", "--initiator", "i"
    )
    assert nothing_is_left()


def test_an_export_that_fails_takes_the_backstore_with_it(daemon: Daemon) -> None:
    assert "who may log in?" in refused("create", "vol0", "ram", "--size", "8M", "--iscsi", IQN)
    assert nothing_is_left()
    bad_name = ("--iscsi", "not an iqn", "--any-initiator")
    assert "cannot be exported as" in refused("create", "vol0", "ram", "--size", "8M", *bad_name)
    assert nothing_is_left()


def test_a_name_is_given_once(daemon: Daemon) -> None:
    told("create", "vol0", "ram", "--size", "8M")
    assert "there is a LUN vol0 already" in refused("create", "vol0", "ram", "--size", "8M")
    assert "no LUN vol1; there are: vol0" in refused("delete", "vol1")
    told("delete", "user_0/vol0")


def test_a_disk_that_is_mounted_is_not_taken_away(daemon: Daemon, tmp_path: Path) -> None:
    made = told("create", "vol0", "ram", "--size", "64M", "--loopback")
    command("mkfs.ext4", "-q", made["disk"])
    command("mount", made["disk"], tmp_path)
    try:
        assert f"{made['disk']} is mounted on {tmp_path}" in refused("delete", "vol0")
    finally:
        command("umount", tmp_path)
    told("delete", "vol0")


def test_drain_and_restart(daemon: Daemon) -> None:
    told("create", "vol0", "ram", "--size", "8M")
    assert told("drain", "vol0") == {"name": "user_0/vol0", "drained": True}
    assert told("list")[0]["state"] == "stopped"
    told("restart", "vol0")
    assert told("list")[0]["state"] == "serving"
    assert "user_0/vol0" in command("tcmu-runner", "top", "--count", "1", "--interval", "0.1")


def test_without_a_bus(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the daemon's own socket answers."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/absent")
    told("create", "vol0", "ram", "--size", "8M")
    told("restart", "vol0")
    assert [(each["name"], each["state"]) for each in told("list")] == [("user_0/vol0", "serving")]
    assert "no LUN vol1; there are: user_0/vol0" in refused("show", "vol1")
    told("delete", "vol0")


@pytest.fixture
def faulty() -> Iterator[None]:
    """A stack whose faults can be changed."""
    (file := Path("/etc/tcmu/tcmu-runner.toml")).parent.mkdir(exist_ok=True)
    file.write_text('[stacks.faulty]\nhandler = "ram"\nfilters = [{ filter = "error" }]\n')
    yield
    file.unlink()


@pytest.mark.usefixtures("faulty")
def test_faults_come_and_go_while_a_disk_is_used(daemon: Daemon) -> None:
    """By the command, and by D-Bus, which it stands on."""
    eventually("the stack", lambda: "faulty" in {each["name"] for each in told("handlers")})
    disk = told("create", "vol0", "faulty", "--size", "8M", "--loopback")["disk"]
    read = ("sg_dd", f"if={disk}", "of=/dev/null", "bs=512", "count=8", "skip=2048", "blk_sgio=1")
    command(*read)
    told("faults", "vol0", "--rule", 'on = "read", offset = "1M", length = 512, sense = "3/11/00"')
    assert attempt(*read).status == MEDIUM_ERROR
    found = told("faults", "vol0")
    assert found["met"] == found["applied"] != [0]
    told("faults", "vol0", "--clear")
    command(*read)

    device = "/org/kernel/TCMURunner2/devices/user_0/vol0"
    call = ("busctl", "call", "org.kernel.TCMUService1", device, "org.kernel.TCMURunner2.Layers1", "Control")
    rule = ("2", "on", "s", "read", "sense", "s", "3/11/00")
    command(*call, "sa{sv}", "error", "1", "rules", "aa{sv}", "1", *rule)
    assert "3/11/00" in command(*call, "sa{sv}", "error", "0")
    assert attempt(*read).status == MEDIUM_ERROR
    told("faults", "vol0", "--clear")
    command(*read)
    assert "write it as: on =" in refused("faults", "vol0", "--rule", "on")
    told("delete", "vol0")
