"""Names and extents of operations: every one has them."""

from typing import get_args

import pytest

from tcmu_runner.filters.op_names import NAMES, extent, kind, text
from tcmu_runner.scsi.operations import CompareAndWrite, Operation, WriteSame

BLOCK = bytes(512)


def test_every_operation_has_a_name_of_its_own() -> None:
    assert set(NAMES) == set(get_args(Operation))
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize(
    ("operation", "name", "where"),
    [
        (CompareAndWrite(4096, [memoryview(BLOCK)], [memoryview(BLOCK)]), "compare_and_write", (4096, 512)),
        (WriteSame(8192, 1024, BLOCK), "write_same", (8192, 1024)),
    ],
)
def test_operations_that_a_handler_may_do_as_one(
    operation: Operation, name: str, where: tuple[int, int]
) -> None:
    assert (kind(operation), extent(operation)) == (name, where)
    assert text(operation) == f"{name} of {where[1]} bytes at {where[0]}"
