"""What the fixtures of conftest.py are, for a test's signature."""

from typing import Protocol

from support.configfs import Backstore

MIB = 1 << 20


class ExpectedLog(Protocol):
    """Declares a warning or an error that the test provokes, as a regular expression."""

    def __call__(self, pattern: str, *, optional: bool = False) -> None: ...


class MakeBackstore(Protocol):
    """Makes and enables a backstore; `control` are more keys of its control file."""

    def __call__(self, config: str, size: int = ..., **control: str | int) -> Backstore: ...
