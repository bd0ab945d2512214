"""What `rbd` does without a cluster; tests/backends has the rest."""

from __future__ import annotations

import asyncio
import ctypes

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import Device
from tcmu_runner.handlers import librbd
from tcmu_runner.handlers.rbd import RbdHandler


def test_config_strings_of_the_c_daemon() -> None:
    """ceph-iscsi writes these (ecosystem.md 2)."""
    options = RbdHandler.parse("rbd/disk1;osd_op_timeout=30;conf=/etc/ceph/other.conf;id=tcmu")
    place = options.place
    assert (place.pool, place.namespace, place.image, place.snapshot) == ("rbd", "", "disk1", "")
    assert (place.conf, place.client) == ("/etc/ceph/other.conf", "tcmu")
    assert place.settings["rados_osd_op_timeout"] == "30"


def test_namespaces_and_snapshots() -> None:
    place = RbdHandler.parse("vms/blue/disk1@monday").place
    assert (place.pool, place.namespace, place.image, place.snapshot) == ("vms", "blue", "disk1", "monday")
    assert str(place) == "vms/blue/disk1"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("", "names no image"),
        ("disk1", "write rbd/POOL/IMAGE"),
        ("rbd//disk1", "names no image"),
        ("a/b/c/d", "names no image"),
        ("rbd/disk1;conf=ceph.conf", "not absolute"),
        ("rbd/disk1;osd_op_timeout=long", "osd_op_timeout"),
        ("rbd/disk1;nosuch=1", "unknown option 'nosuch'"),
    ],
)
def test_config_strings_that_are_refused(config: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        RbdHandler.parse(config)


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    librbd.load.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match=r"librados.so.2.*install.*librbd1"):
        asyncio.run(RbdHandler.open(Device("d", 1 << 20), RbdHandler.parse("rbd/disk1")))
