"""The sizes a LUN may have, and what is left of it after one that it may not have."""

from dataclasses import replace

import pytest

from tcmu_runner.engine.lun import Description
from tcmu_runner.errors import ConfigError

from .bench import Bench, Memory

DESCRIPTION = Description("user_0/test", "test/", 1 << 20)
# what `echo 18446744073709551104 > attrib/dev_size` is, and the first size that no off_t of Linux can say
TOO_LARGE = ((1 << 64) - 512, 1 << 63)


@pytest.mark.parametrize("size", TOO_LARGE)
def test_more_than_there_can_be(size: int) -> None:
    with pytest.raises(ConfigError, match=f"dev_size={size} is more than 9223372036854775807 bytes"):
        replace(DESCRIPTION, size=size).check()
    replace(DESCRIPTION, size=(1 << 63) - 512).check()


@pytest.mark.parametrize("size", [*TOO_LARGE, 0, -512, 513])
def test_a_size_that_is_refused_reaches_no_handler(size: int) -> None:
    class Unasked(Memory):
        def resize(self, size: int) -> None:
            raise AssertionError("nobody should have asked")

    bench = Bench(Unasked())
    with pytest.raises(ConfigError):
        bench.lun.resize(size)
    assert bench.lun.unit.size == 1 << 20
    assert not bench.lun.unit.nexuses.pop().attentions
    bench.close()
