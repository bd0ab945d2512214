"""null: it costs nothing and stores nothing."""

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handlers.null import NullHandler
from tcmu_runner.scsi.unit import Capabilities


def test_parse() -> None:
    assert NullHandler.parse("") == NullHandler.parse("/") == ""
    with pytest.raises(ConfigError, match="null takes no configuration, found 'x': write null/"):
        NullHandler.parse("x")


def test_it_reads_zeroes_whatever_was_written() -> None:
    handler = NullHandler.open(Device("test", 1 << 50), "")
    handler.write([memoryview(bytearray(b"x" * 512))], 0)
    handler.write_durable([memoryview(bytearray(b"x" * 512))], 0)
    into = [memoryview(bytearray(b"\xee" * 300)), memoryview(bytearray(b"\xee" * 212))]
    handler.read(into, 0)
    assert not any(into[0]) and not any(into[1])


def test_all_of_it_is_a_hole() -> None:
    handler = NullHandler.open(Device("test", 4096), "")
    assert [tuple(extent) for extent in handler.extents(512, 1024)] == [(512, 1024, False)]


def test_capabilities() -> None:
    assert NullHandler.open(Device("test", 4096), "").capabilities() == Capabilities(
        write=True, unmap=True, unmap_reads_zero=True, write_zeroes=True, extents=True
    )
