"""A target on loopback, and an initiator at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.embedded.initiator import Initiator

SIZE = 1 << 20


class Connect(Protocol):
    """Opens a connection; isid: of its session; keys: what it negotiates in the login."""

    def __call__(self, portal: int = 0, *, login: bool = True, isid: int = 1, **keys: str) -> Initiator: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """LUN 0 of 512-byte blocks, LUN 1 of 4096-byte blocks, two portals."""
    with serve(Disk("ram/", SIZE), Disk("ram/", SIZE, 4096), portals=2) as found:
        yield found


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """Opens connections; `login=False` leaves them before the login. All are closed afterwards."""
    opened: list[Initiator] = []

    def open_connection(portal: int = 0, *, login: bool = True, isid: int = 1, **keys: str) -> Initiator:
        at = server.portals[portal]
        initiator = Initiator(at.host, at.port, isid=isid.to_bytes(6, "big"), time_out=60)
        opened.append(initiator)
        if login:
            initiator.login(server.target.name, **keys)
        return initiator

    yield open_connection
    for initiator in opened:
        initiator.close()
