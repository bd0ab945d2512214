from collections.abc import Callable

import pytest

from tcmu_runner import ScsiError
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.stacked import check_filter, open_stack


def test_it_keeps_the_contract() -> None:
    report = check_filter("ram/", ("readonly", {}))
    assert report.ok, str(report)


def test_nothing_can_be_changed() -> None:
    stack = open_stack("ram/", ("readonly", {}))
    assert stack.capabilities() == Capabilities(extents=True)  # as ram has
    changes: list[Callable[[], None]] = [
        lambda: stack.write([memoryview(bytearray(512))], 0),
        lambda: stack.unmap(0, 512),
        lambda: stack.write_zeroes(0, 512, unmap=True),
        stack.crypto_erase,
    ]
    for change in changes:
        with pytest.raises(ScsiError) as error:
            change()
        assert (error.value.sense.key, error.value.sense.asc) == (
            7,
            0x27,
        )  # SPC-5: DATA PROTECT, WRITE PROTECTED
    stack.close()
