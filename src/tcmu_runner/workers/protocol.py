"""What supervisor and workers say to each other: one JSON object in one datagram, typed and versioned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import get_args

from tcmu_runner.errors import DeviceError

VERSION = 3
MAX_LENGTH = 1 << 16
LARGEST = 1 << 64  # what dev_size of the kernel can have; no number of a message is larger

Table = dict[str, object]  # what JSON and D-Bus both can say


@dataclass(frozen=True, slots=True)
class Serve:
    """Open a device's storage and serve its ring; with the datagram come its UIO descriptor, those of its
    statistics and of its current and lasting state, and, where the ring may not be looked at yet, that of a
    RingReady. name: of UIO. identity, limits: its overrides. stack: where the config string names one, its
    table in the settings. origin: a handler.device.Origin. serial: of the unit as long as LIO has
    none."""

    id: int
    minor: int
    name: str
    identity: Mapping[str, str | int | bool] = field(default_factory=dict)
    limits: Mapping[str, str | int | bool] = field(default_factory=dict)
    stack: Mapping[str, object] | None = None
    origin: str = "new"
    serial: str = ""


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

    def __post_init__(self) -> None:
        if self.size < 0 or self.block_size < 0:  # D-Bus and the metrics have no such sizes
            raise ValueError(f"a size of {self.size} bytes, in blocks of {self.block_size}")


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
    """From a worker: it answers from now on."""


@dataclass(frozen=True, slots=True)
class Forked:
    """From the forkserver: the process that it has forked for the oldest request without an answer; 0 where
    fork(2) failed. A worker cannot say this of itself: the supervisor, which is root, kills that process."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """From the forkserver: how a worker has ended, as waitpid(2) has it."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class LogTo:
    """Log at this level from now on, to the file whose descriptor comes with the datagram."""

    level: int


Request = Serve | Drain | Close | Resize | Adjust | Control | Watch
Spoken = Done | Broken | Started  # by workers
Message = Request | Spoken | Forked | Ended | LogTo

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}
_PLAIN = {"int": (int,), "bool": (bool,), "str": (str,), "float": (float, int), "Table": (dict,)}


def encode(message: Message) -> bytes:
    return json.dumps({"version": VERSION, "kind": type(message).__name__, **asdict(message)}).encode()


def decode(datagram: bytes) -> Message:
    """Raises DeviceError for what another version of this program might say, and for fields of wrong types:
    the sender may be a worker that others have taken over."""
    try:
        table = json.loads(datagram)
        version, kind = table.pop("version"), table.pop("kind")
        if version == VERSION:
            return _checked(_KINDS[kind](**table))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeviceError(f"a message between supervisor and worker cannot be read: {error}") from error
    raise DeviceError(f"supervisor and worker speak versions {VERSION} and {version}: restart tcmu-runner")


def _checked(message: Message) -> Message:
    """Fields of plain types have these, not others that JSON has, too. Raises TypeError."""
    for each in fields(message):
        value, wanted = getattr(message, each.name), _PLAIN.get(str(each.type))
        if wanted is not None and type(value) not in wanted:
            raise TypeError(f"{each.name} is {type(value).__name__}, not {each.type}")
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise TypeError(f"{each.name} has {value.bit_length()} bits")
    return message
