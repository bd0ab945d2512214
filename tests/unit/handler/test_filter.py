"""Filters: one that its author has not defined changes nothing. Stacks of them, as they look from outside."""

from __future__ import annotations

import pytest

from tcmu_runner import Filter
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handler import filter as module
from tcmu_runner.handler.filter import Layer, StackDefinition
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.handlers.null import NullHandler
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


MIB = 1 << 20


def test_what_a_filter_adds_cannot_make_it_more_than_there_can_be() -> None:
    layer = Layer.parse("offset", {"offset": "1M"})
    assert layer.size_below(4096) == 4096 + (1 << 20)
    with pytest.raises(ConfigError, match="filter offset needs 9223372036855823872 bytes"):
        layer.size_below((1 << 63) - 512)


def test_wrong_options_are_named_with_their_filter() -> None:
    with pytest.raises(ConfigError, match="filter readonly: it takes no options, found size"):
        Layer.parse("readonly", {"size": 1})


def test_a_filter_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no filter 'nothing'; there are: cache, cow,"):
        module.find("nothing")


def test_a_filter_whose_package_lacks_something_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "broken"

        def load(self) -> object:
            raise ImportError("No module named 'lz4'")

    monkeypatch.setattr(module, "entry_points", lambda *, group: [Broken()])
    with pytest.raises(ConfigError, match="filter broken cannot be used: No module named 'lz4'; install"):
        module.find("broken")


def test_it_describes_itself_and_what_its_config_string_means_below() -> None:
    layers = (Layer.parse("readonly", {}), Layer.parse("offset", {"offset": "1M"}))
    told = StackDefinition("safe", NullHandler, layers).describe()
    assert told.startswith("safe/CONFIG\n\nA stack of the settings: readonly over offset over null.\n")
    assert told.endswith(NullHandler.describe())
    assert "Backups: null.\n" in StackDefinition("safe", NullHandler, description="Backups").describe()


def test_sizes_are_those_that_the_filters_make_of_the_handlers() -> None:
    layers = (Layer.parse("offset", {"offset": "1M"}), Layer.parse("offset", {"offset": "2M"}))
    definition = StackDefinition("shifted", FileHandler, layers)
    assert definition.base_size(8 * MIB) == 11 * MIB
    assert [layer.size_above(8 * MIB) for layer in layers] == [7 * MIB, 6 * MIB]


def test_it_parses_and_probes_with_its_handler(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("disk") / "a.img"
    path.write_bytes(bytes(4 * MIB))
    definition = StackDefinition("shifted", FileHandler, (Layer.parse("offset", {"offset": "1M"}),))
    assert definition.probe(definition.parse(f"{path}")) == 3 * MIB
    assert definition.probe(definition.parse(f"{path.parent}/none")) is None
