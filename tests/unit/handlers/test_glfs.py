"""Config strings of glfs. A real volume is served in tests/backends."""

from __future__ import annotations

import ctypes

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handlers import libgfapi
from tcmu_runner.handlers.glfs import GlfsHandler, GlfsOptions


def test_parse() -> None:
    options = GlfsHandler.parse("vol1@storage1/block-store/a;log=/var/log/gfapi.log;port=24008")
    assert options == GlfsOptions("vol1@storage1/block-store/a", 24008, "/var/log/gfapi.log")
    assert (options.volume, options.host, options.path) == ("vol1", "storage1", "/block-store/a")
    assert GlfsHandler.parse("vol1@[2001:db8::7]/a").host == "2001:db8::7"
    assert GlfsHandler.parse("vol1@2001%3Adb8%3A%3A7/a").host == "2001:db8::7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' names no file of a volume: write glfs/VOLUME@HOST/PATH"),
        ("vol1/a", "names no file of a volume"),
        ("vol1@host", "names no file of a volume"),
        ("@host/a", "names no file of a volume"),
        ("vol1@/a", "names no file of a volume"),
        ("vol1@host/a/", "names no file of a volume"),
        ("vol1@host/a;port=70000", "option port=70000: write a TCP port, glusterd's is 24007"),
        ("vol1@host/a;log=x", "option log=x: write an absolute path"),
        ("vol1@host/a;transport=rdma", "unknown option 'transport'; known options: log, port"),
    ],
)
def test_parse_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        GlfsHandler.parse(text)
    assert message in str(error.value)


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, **_: object) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    libgfapi.load.cache_clear()
    with pytest.raises(ConfigError, match="install Gluster's client library"):
        GlfsHandler.open(Device("test", 1 << 20), GlfsHandler.parse("vol1@host/a"))


def test_it_describes_every_option() -> None:
    for option in ("port", "log"):
        assert option in GlfsHandler.describe()
