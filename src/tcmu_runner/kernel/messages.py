"""What supervisor and workers say to each other: one JSON object in one datagram, typed and versioned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import get_args

from tcmu_runner.errors import DeviceError

VERSION = 2
MAX_LENGTH = 1 << 16

Table = dict[str, object]  # what JSON and D-Bus both can say


@dataclass(frozen=True, slots=True)
class Serve:
    """Open a device's storage and serve its ring; with the datagram come its UIO descriptor and that of its
    statistics, and, where the ring may not be looked at yet, that of a GoAhead. name: of UIO. identity,
    limits: its overrides. stack: where the config string names one, its table in the settings."""

    id: int
    minor: int
    name: str
    identity: Mapping[str, str | int | bool] = field(default_factory=dict)
    limits: Mapping[str, str | int | bool] = field(default_factory=dict)
    stack: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Adjust:
    """The overrides of a device have changed."""

    id: int
    minor: int
    identity: Mapping[str, str | int | bool]
    limits: Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until no command is under way, `seconds` at most."""

    id: int
    minor: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Stop serving, close the storage."""

    id: int
    minor: int


@dataclass(frozen=True, slots=True)
class Resize:
    """The administrator's new size in bytes."""

    id: int
    minor: int
    size: int


@dataclass(frozen=True, slots=True)
class Control:
    """Change a filter or the handler while it is open; table: as in the settings."""

    id: int
    minor: int
    layer: str
    table: Table


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request; errno 0: it was done. size, block_size: bytes (Serve). drained: of Drain.
    table: of Control."""

    id: int
    errno: int = 0
    text: str = ""
    size: int = 0
    block_size: int = 0
    drained: bool = True
    table: Table = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """A ring cannot be served any more. gone: because the kernel has removed the device."""

    minor: int
    text: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Look after the commands of all your devices; that it is answered shows that the worker is alive."""

    id: int


@dataclass(frozen=True, slots=True)
class Started:
    """Which process the worker is."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """From the template: how a worker has ended, as waitpid(2) has it."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class LogTo:
    """Log at this level from now on, to the file whose descriptor comes with the datagram."""

    level: int


Request = Serve | Drain | Close | Resize | Adjust | Control | Watch
Message = Request | Done | Broken | Started | Ended | LogTo

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    return json.dumps({"version": VERSION, "kind": type(message).__name__, **asdict(message)}).encode()


def decode(datagram: bytes) -> Message:
    """Raises DeviceError for what another version of this program might say."""
    try:
        fields = json.loads(datagram)
        version, kind = fields.pop("version"), fields.pop("kind")
        if version == VERSION:
            return _KINDS[kind](**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(f"a message between supervisor and worker cannot be read: {error}") from error
    raise DeviceError(f"supervisor and worker speak versions {VERSION} and {version}: restart tcmu-runner")
