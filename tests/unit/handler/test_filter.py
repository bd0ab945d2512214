"""What a filter has that its author does not define: it changes nothing."""

from __future__ import annotations

import pytest

from tcmu_runner import Filter
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.scsi.operations import Flush
from tcmu_runner.scsi.unit import Capabilities


class Bare(Filter[None]):
    """Does
    nothing"""

    name = "bare"


def test_its_docstring_says_what_it_does() -> None:
    assert Bare.describe() == "Does\nnothing\n"


def test_it_takes_no_options() -> None:
    assert Bare.parse({}) is None
    with pytest.raises(ConfigError, match="it takes no options, found a, b"):
        Bare.parse({"b": 1, "a": 2})


def test_sizes_identity_and_capabilities_are_those_below() -> None:
    bare = Bare.open(Device("user_0/vol0", 4096), None)
    assert (Bare.size_below(4096, None), Bare.size_above(4096, None)) == (4096, 4096)
    assert bare.identity("inode 3") == "inode 3"
    assert bare.capabilities(Capabilities(write=True)) == Capabilities(write=True)


def test_beginning_and_end_need_no_operations() -> None:
    bare = Bare()
    assert [*bare.start(), *bare.stop()] == []
    bare.resized(8192)
    bare.close()


def test_operations_are_its_authors_to_handle() -> None:
    with pytest.raises(NotImplementedError):
        Bare().handle(Flush())


def test_nothing_can_be_changed_while_it_is_open() -> None:
    with pytest.raises(ConfigError, match="filter bare has nothing that can be changed while it is open"):
        Bare().control({})
