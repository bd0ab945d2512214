"""A configuration that shall survive a reboot: after_reboot.py looks for it."""

import json
import os
from pathlib import Path

import pytest
from support import disk as raw
from support.configfs import TARGET as TARGET_DIRECTORY
from support.deadline import command, eventually
from support.iscsi import Initiator, IscsiTarget, logout_everywhere

from .conftest import systemctl
from .targetcli import Targetcli

IMAGE = Path("/srv/reboot.img")
TARGET = IscsiTarget(7)
PATTERN = b"written before the reboot".ljust(4096, b".")
OFFSET = 8 << 20
SETTINGS = Path("/etc/tcmu/tcmu-runner.toml")
OVERLAYS = Path("/srv/overlays")
SERIALS = Path("/srv/serials.json")
STACKED = ("y", "a", "m")


def disk_of(name: str) -> Path:
    """By what `list` says, whatever the HBA."""

    def found() -> str:
        luns = json.loads(command("tcmu-runner", "list", "--json"))
        (lun,) = (each for each in luns if each["name"].endswith(f"/{name}"))
        return str(lun["exports"][0]["disk"]) if lun["exports"] else ""

    eventually(f"the disk of {name}", lambda: bool(found()))
    return Path(found())


def serial_of(name: str) -> str:
    (file,) = TARGET_DIRECTORY.glob(f"core/user_*/{name}/wwn/vpd_unit_serial")
    return file.read_text()


@pytest.fixture
def clean_slate() -> None:
    """What is made here stays."""


def test_a_lun_is_made_and_saved() -> None:
    """LIO's service runs, as on any machine that has booted with it: at the boot it restores the LUNs, and at
    the shutdown it removes them while the daemon still runs."""
    systemctl("enable", "--now", "rtslib-fb-targetctl.service")
    Targetcli()(
        f"/backstores/user:file create kept 64M {IMAGE}",
        "/backstores/user:file create other 32M /srv/other.img",
        f"/iscsi create {TARGET.iqn}",
        f"/iscsi/{TARGET.iqn}/tpg1/luns create /backstores/user:file/kept",
        f"/iscsi/{TARGET.iqn}/tpg1 set attribute authentication=0 generate_node_acls=1",
        f"/iscsi/{TARGET.iqn}/tpg1 set attribute cache_dynamic_acls=1 demo_mode_write_protect=0",
        "saveconfig",
    )
    disk = Initiator().login(TARGET)
    raw.write(disk, OFFSET, PATTERN)
    logout_everywhere()
    os.sync()


def test_several_are_made_and_deleted_in_any_order() -> None:
    """At the next boot they have other HBAs: rtslib numbers them in the order in which it restores."""
    SETTINGS.write_text(
        f'[stacks.ov]\nhandler = "file"\nfilters = [{{ filter = "cow", directory = "{OVERLAYS}" }}]\n'
        + "".join(f'[devices.{name}]\nvendor = "V{name}"\n' for name in STACKED)
    )
    OVERLAYS.mkdir()
    eventually("the stack", lambda: '"ov"' in command("tcmu-runner", "handlers", "--json"))
    for name in ("z", *STACKED, "gone"):
        (OVERLAYS / f"{name}.img").write_bytes(bytes(8 << 20))
        command("tcmu-runner", "create", name, "ov", OVERLAYS / f"{name}.img", "--loopback")
    for name in STACKED:
        raw.write(disk_of(name), OFFSET // 2, name.encode() * 4096)
    for name in ("gone", "z"):
        command("tcmu-runner", "delete", name)
    SERIALS.write_text(json.dumps({name: serial_of(name) for name in STACKED}))
    os.sync()
