import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.stack import Layer


def test_what_a_filter_adds_cannot_make_it_more_than_there_can_be() -> None:
    layer = Layer.parse("offset", {"offset": "1M"})
    assert layer.size_below(4096) == 4096 + (1 << 20)
    with pytest.raises(ConfigError, match="filter offset needs 9223372036855823872 bytes"):
        layer.size_below((1 << 63) - 512)
