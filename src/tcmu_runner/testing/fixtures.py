"""pytest fixtures for tests of handlers: pytest_plugins = ["tcmu_runner.testing.fixtures"]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from tcmu_runner.embedded import Disk, serve
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.handler.registry import AnyHandler, Registry

SIZE = 16 << 20


class ServeHandler(Protocol):
    """The type of the fixture `serve_handler`. A test imports it `if TYPE_CHECKING`: pytest warns of a plugin
    that was imported before it."""

    def __call__(
        self, cls: AnyHandler, config: str = "", *, size: int = SIZE, block_size: int = 512
    ) -> Initiator: ...


@pytest.fixture
def serve_handler() -> Iterator[ServeHandler]:
    """`serve_handler(MyHandler, "config")`: a LUN of the class on loopback; returns a logged-in initiator.

    size, block_size: bytes. The LUN is closed after the test. Raises what opening the handler raises.
    """
    with ExitStack() as served:

        def begin(cls: AnyHandler, config: str = "", *, size: int = SIZE, block_size: int = 512) -> Initiator:
            registry = Registry()
            registry.add(cls)
            server = served.enter_context(
                serve(Disk(f"{cls.subtype}/{config}", size, block_size), registry=registry)
            )
            at = server.portals[0]
            initiator = served.enter_context(Initiator(at.host, at.port))
            initiator.login(server.target.name)
            return initiator

        yield begin
