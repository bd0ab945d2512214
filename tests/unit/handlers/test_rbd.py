"""What `rbd` does without a cluster; tests/backends has the rest."""

from __future__ import annotations

import asyncio
import ctypes
import errno
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from support.waiting import eventually

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import Device
from tcmu_runner.handlers import librbd, rbd
from tcmu_runner.handlers.rbd import RbdHandler

if TYPE_CHECKING:
    from tcmu_runner.handlers.rbd_image import RbdImage


def test_config_strings_of_the_c_daemon() -> None:
    """ceph-iscsi writes these (ecosystem.md 2)."""
    options = RbdHandler.parse("rbd/disk1;osd_op_timeout=30;conf=/etc/ceph/other.conf;id=tcmu")
    place = options.place
    assert (place.pool, place.namespace, place.image, place.snapshot) == ("rbd", "", "disk1", "")
    assert (place.conf, place.client) == ("/etc/ceph/other.conf", "tcmu")
    assert place.settings["rados_osd_op_timeout"] == "30"


def test_a_slash_before_the_pool_is_skipped() -> None:
    """As C does, whose README has rbd//POOL/IMAGE; targetcli has saved it so."""
    assert RbdHandler.parse("/rbd/disk1").place == RbdHandler.parse("rbd/disk1").place
    assert RbdHandler.parse("/vms/blue/disk1@monday").place == RbdHandler.parse("vms/blue/disk1@monday").place


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
        ("/disk1", "names no image"),
        ("//rbd/disk1", "names no image"),
        ("rbd/disk1;osd_op_timeout=x", "osd_op_timeout=x is not a whole number"),
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


class FakeImage:
    """Takes the place of librbd: `sizes` are its answers in order, and `written` those to a write."""

    def __init__(self, *sizes: int | OSError, written: Sequence[OSError] = ()) -> None:
        self.sizes = [1 << 20, *sizes]
        self.written = list(written)
        self.cluster = SimpleNamespace(register=lambda *_: None, tell_status=lambda _: None)
        self.closed = False

    def size(self) -> int:
        answer = self.sizes.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def id(self) -> str:
        return "1"

    def listen(self, _loop: object) -> None: ...

    def deafen(self, _loop: object) -> None: ...

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def write(self, _data: object, _offset: int) -> None:
        raise self.written.pop(0)

    async def drained(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def handler(device: Device, image: FakeImage) -> RbdHandler:
    return RbdHandler(device, RbdHandler.parse("rbd/disk"), cast("RbdImage", image))


def test_a_size_that_the_cluster_does_not_tell_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd, "RETRY_SECONDS", 0)
    image = FakeImage(TimeoutError(errno.ETIMEDOUT, "no answer"), 2 << 20)
    seen: list[int] = []

    async def life() -> None:
        made = handler(Device("lun0", 1 << 20, 512, on_resized=seen.append), image)
        image.changed()
        await eventually(lambda: seen)
        await made.close()

    asyncio.run(life())
    assert (seen, image.closed) == ([2 << 20], True)


def test_a_request_that_librbd_calls_invalid_while_it_has_no_cluster_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It could not read the image's header again; initiators got WRITE ERROR."""
    errors = [TimeoutError(errno.ETIMEDOUT, "no answer"), OSError(errno.EINVAL, "Invalid argument")]
    image = FakeImage(written=errors)

    async def life() -> list[int | None]:
        made = handler(Device("lun0", 1 << 20, 512), image)
        found = []
        for _ in range(2):
            with pytest.raises(OSError, match=r".") as caught:
                await made.write([memoryview(bytes(512))], 0)
            found.append(caught.value.errno)
        await made.close()
        return found

    assert asyncio.run(life()) == [errno.ETIMEDOUT, errno.ETIMEDOUT]
    assert "lost the connection to its storage" in caplog.messages[0]
    caplog.clear()
