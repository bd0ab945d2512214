"""Machines on one network, each with a kernel of its own. On the host; what runs in them is in_machine.py."""

from collections.abc import Iterator

import pytest

from vm.rack import Rack, rack


@pytest.fixture(scope="module")
def machines() -> Iterator[Rack]:
    """An initiator and two gateways, with our daemon installed in each; their kernels did not complain."""
    with rack(["initiator", "left", "right"]) as made:
        yield made
        assert not (complaints := made.complaints()), "\n".join(complaints)
