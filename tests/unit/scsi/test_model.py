"""The model on a byte store, which checks each operation's contract; with all capabilities and with few."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.play import EVERYTHING

from .bytestore import ByteStore
from .model import DiskModel, machine

KINDS = [
    EVERYTHING,
    Capabilities(write=True, unmap=True, unmap_reads_zero=True),
    Capabilities(write=True),
]


class Exact(DiskModel):
    """A byte store knows of each block whether it is mapped."""

    store: ByteStore

    def told(self, lba: int, mapped: list[bool]) -> None:
        assert mapped == self.store.mapped[lba:]


@pytest.mark.parametrize("capabilities", KINDS, ids=["everything", "unmap", "write"])
def test_model(capabilities: Capabilities) -> None:
    def open_storage(size: int, block_size: int) -> tuple[Capabilities, ByteStore]:
        return capabilities, ByteStore(size, block_size)

    quick = settings(max_examples=25, stateful_step_count=30)
    run_state_machine_as_test(machine(open_storage, base=Exact), settings=quick)
