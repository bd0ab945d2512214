"""The messages between supervisor and worker: one JSON object in one datagram, typed and versioned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import get_args

from tcmu_runner.errors import DeviceError

VERSION = 3
MAX_LENGTH = 1 << 16
LARGEST = 1 << 64  # the kernel's dev_size has 64 bits; no number of a message is larger

Table = dict[str, object]  # of values that both JSON and D-Bus have


@dataclass(frozen=True, slots=True)
class Serve:
    """Open a device's storage and serve its ring. Descriptors in the datagram: UIO device, statistics,
    current and lasting state.

    name: of the UIO device. identity, limits: its overrides. stack: the settings' table of the stack that the
    config string names, if it names one. origin: value of handler.device.Origin. serial: the unit serial
    number to report while LIO has none."""

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
    """Apply new overrides of a device."""

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
    """Stop serving and close the storage."""

    id: int
    minor: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Change the size to that of the administrator, in bytes."""

    id: int
    minor: int
    size: int


@dataclass(frozen=True, slots=True)
class Control:
    """Change a filter or the handler while the device is open. table: as in the settings."""

    id: int
    minor: int
    layer: str
    table: Table


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request. errno 0: success. size, block_size: bytes, of Serve. drained: of Drain. table:
    of Control."""

    id: int
    errno: int = 0
    text: str = ""
    size: int = 0
    block_size: int = 0
    drained: bool = True
    table: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 0 or self.block_size < 0:  # would not fit the unsigned types of D-Bus and the metrics
            raise ValueError(f"a size of {self.size} bytes, in blocks of {self.block_size}")


@dataclass(frozen=True, slots=True)
class Broken:
    """From a worker: it cannot go on serving a ring. gone: because the kernel has removed the device."""

    minor: int
    text: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Check all devices for late commands. The answer proves that the worker's main thread runs."""

    id: int


@dataclass(frozen=True, slots=True)
class Started:
    """From a worker: its main thread reads requests from now on."""


@dataclass(frozen=True, slots=True)
class Forked:
    """From the forkserver, for its oldest unanswered request: the new process's id, 0 where fork(2) failed.
    The supervisor kills by this id, as root, so it must not come from the worker itself."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """From the forkserver: a worker's wait status, see waitpid(2)."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class LogTo:
    """Log at this level to the file; its descriptor is in the datagram."""

    level: int


Request = Serve | Drain | Close | Resize | Adjust | Control | Watch
Spoken = Done | Broken | Started  # sent by workers
Message = Request | Spoken | Forked | Ended | LogTo

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}
_PLAIN = {"int": (int,), "bool": (bool,), "str": (str,), "float": (float, int), "Table": (dict,)}


def encode(message: Message) -> bytes:
    return json.dumps({"version": VERSION, "kind": type(message).__name__, **asdict(message)}).encode()


def decode(datagram: bytes) -> Message:
    """Raises DeviceError for a message of another version of this program, and for fields of wrong types: an
    attacker may control the worker that sent it."""
    try:
        table = json.loads(datagram)
        version, kind = table.pop("version"), table.pop("kind")
        if version == VERSION:
            return _checked(_KINDS[kind](**table))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeviceError(f"a message between supervisor and worker cannot be read: {error}") from error
    raise DeviceError(f"supervisor and worker speak versions {VERSION} and {version}: restart tcmu-runner")


def _checked(message: Message) -> Message:
    """Refuses types that JSON has but the field has not, such as null or a float. Raises TypeError."""
    for each in fields(message):
        value, wanted = getattr(message, each.name), _PLAIN.get(str(each.type))
        if wanted is not None and type(value) not in wanted:
            raise TypeError(f"{each.name} is {type(value).__name__}, not {each.type}")
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise TypeError(f"{each.name} has {value.bit_length()} bits")
    return message
