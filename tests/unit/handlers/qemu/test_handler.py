"""Config strings of qcow and qemu. Their images are served in tests/backends."""

from __future__ import annotations

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handlers.qemu import ImageOptions, QcowHandler, QemuHandler


def test_parse() -> None:
    assert QcowHandler.parse("/srv/a") == ImageOptions("/srv/a")
    assert QcowHandler.parse("/srv/a;format=raw;read_only") == ImageOptions("/srv/a", "raw", read_only=True)
    options = QemuHandler.parse("/srv/a;format=vmdk;direct;aio=native;detect_zeroes=unmap")
    assert options == ImageOptions("/srv/a", "vmdk", direct=True, aio="native", detect_zeroes="unmap")


@pytest.mark.parametrize(
    ("handler", "text", "message"),
    [
        (QcowHandler, "srv/a", "path 'srv/a' names no file: write qcow//srv/disk.qcow2, with two slashes"),
        (QemuHandler, "/srv/;format=raw", "write qemu//srv/disk.qcow2"),
        (QcowHandler, "/srv/a;format=vmdk", "option format=vmdk: there are qcow2, qcow, raw"),
        (QemuHandler, "/srv/a", "option 'format' is missing: add ;format=qcow2"),
        (QemuHandler, "/srv/a;format=tar", "option format=tar: there are bochs, cloop, dmg"),
        (QcowHandler, "/srv/a;aio=posix", "option aio=posix: there are threads, native, io_uring"),
        (QcowHandler, "/srv/a;aio=native", "does not work with the page cache: add ;direct"),
        (QcowHandler, "/srv/a;detect_zeroes", "option detect_zeroes needs a value"),
        (QcowHandler, "/srv/a;cache=none", "unknown option 'cache'; known options: aio, detect_zeroes"),
    ],
)
def test_parse_says_what_is_wrong(handler: type[QcowHandler], text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        handler.parse(text)
    assert message in str(error.value)


def test_they_describe_every_option() -> None:
    for option in ImageOptions.__dataclass_fields__:
        assert option in QemuHandler.describe().lower()
