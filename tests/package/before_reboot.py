"""A configuration that shall survive a reboot: after_reboot.py looks for it."""

import os
from pathlib import Path

import pytest
from support import disk as raw
from support.iscsi import Initiator, IscsiTarget, logout_everywhere

from .conftest import systemctl
from .targetcli import Targetcli

IMAGE = Path("/srv/reboot.img")
TARGET = IscsiTarget(7)
PATTERN = b"written before the reboot".ljust(4096, b".")
OFFSET = 8 << 20


@pytest.fixture
def clean_slate() -> None:
    """What is made here stays."""


def test_a_lun_is_made_and_saved() -> None:
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
    systemctl("enable", "rtslib-fb-targetctl.service")
    os.sync()
