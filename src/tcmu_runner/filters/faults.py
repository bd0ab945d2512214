"""Rules of the filter `error`: which operations fail, and how."""

from __future__ import annotations

import errno
import os
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.op_names import NAMES, extent, kind
from tcmu_runner.filters.options import parse_table
from tcmu_runner.scsi.operations import Operation
from tcmu_runner.scsi.sense import ScsiError, ScsiStatusError, Sense, Status

_SENSE = re.compile(r"([0-9a-f]{1,2})/([0-9a-f]{1,2})/([0-9a-f]{1,2})", re.IGNORECASE)
_STATUSES = {status.name.lower().replace("_", "-"): status for status in Status if status is not Status.GOOD}
_CHANGES = {"write", "flush", "unmap", "write_zeroes"}


@dataclass(frozen=True, slots=True)
class FaultRule:
    """Conditions: `on` names kinds of operations, separated by blanks, or is "any". offset, length: bytes, of
    which the operation touches one; length 0: to the end. nth: from the nth such operation on, counted from
    1. times: how often; 0: always. probability: by the filter's random numbers. after: only once the rule of
    this name has been applied.

    Effects: sense as "KEY/ASC/ASCQ" in hex, status or errno: the operation ends with it. done: bytes of it
    that are done first (a short or torn transfer). lose: it is reported as done without being done. delay:
    seconds before all this; alone, the operation is only late.
    """

    on: str = "any"
    offset: int = 0
    length: int = 0
    nth: int = 1
    times: int = 0
    probability: float = 1.0
    name: str = ""
    after: str = ""
    sense: str = ""
    status: str = ""
    errno: str = ""
    done: int = 0
    lose: bool = False
    delay: float = 0.0

    def __post_init__(self) -> None:
        kinds = {*NAMES.values(), "any"} - {"pause"}
        for word in self.on.split() or [""]:
            if word not in kinds:
                raise ConfigError(f"on = {self.on!r}: there are {', '.join(sorted(kinds))}")
        if not 0.0 <= self.probability <= 1.0:
            raise ConfigError(f"probability = {self.probability}: write a number from 0.0 to 1.0")
        endings = [bool(self.sense), bool(self.status), bool(self.errno), self.lose]
        if sum(endings) > 1 or not (any(endings) or self.delay):
            raise ConfigError("write one of sense, status, errno or lose = true, or a delay")
        if self.lose and not set(self.on.split()) <= _CHANGES:
            raise ConfigError(
                f"lose = true: only of {', '.join(sorted(_CHANGES))}; what was read must be there"
            )
        if self.done and not any(endings[:3]):
            raise ConfigError("done needs an error to follow: write sense, status or errno, too")
        self.error()

    @classmethod
    def parse(cls, table: object) -> FaultRule:
        if not isinstance(table, Mapping):
            raise ConfigError('write each rule as { on = "read", sense = "3/11/00" }')
        return parse_table(cls, table)

    def told(self) -> dict[str, object]:
        """As a table of the settings."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != each.default
        }

    def error(self) -> Exception | None:
        """The error that ends the operation; None if it does not fail."""
        if self.sense:
            return ScsiError(_sense(self.sense))
        if self.status:
            if self.status not in _STATUSES:
                raise ConfigError(f"status = {self.status!r}: there are {', '.join(sorted(_STATUSES))}")
            return ScsiStatusError(_STATUSES[self.status])
        if self.errno:
            code = getattr(errno, self.errno, None)
            if code is None:
                raise ConfigError(f'errno = {self.errno!r}: write a name like "EIO"')
            return OSError(code, f"{os.strerror(code)} (filter error)")
        return None

    def concerns(self, operation: Operation) -> bool:
        """Whether it is one of the kinds and touches the range."""
        if self.on != "any" and kind(operation) not in self.on.split():
            return False
        offset, length = extent(operation)
        if not length:
            return not (self.offset or self.length)
        return offset + length > self.offset and (not self.length or offset < self.offset + self.length)


def _sense(text: str) -> Sense:
    found = _SENSE.fullmatch(text)
    if found is None:
        raise ConfigError(f'sense = {text!r}: write KEY/ASC/ASCQ in hex, for example "3/11/00"')
    key, asc, ascq = (int(part, 16) for part in found.groups())
    if key > 0xF:
        raise ConfigError(f"sense = {text!r}: a sense key has one digit")
    return Sense(key, asc, ascq)


class Faults:
    """Finds the rule for each operation. Any thread. The same operations in the same order meet the same
    faults with the same seed."""

    def __init__(self, rules: Sequence[FaultRule], seed: int) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self.set(rules)

    def set(self, rules: Sequence[FaultRule]) -> None:
        """Replaces the rules and clears the counters; the random numbers continue."""
        with self._lock:
            self._rules = tuple(rules)
            self._met = [0] * len(rules)
            self._applied = [0] * len(rules)
            self._happened: set[str] = set()

    def told(self) -> dict[str, object]:
        """The rules as tables, how often each has met an operation that it concerns, and how often it was
        applied."""
        with self._lock:
            return {
                "rules": [rule.told() for rule in self._rules],
                "met": list(self._met),
                "applied": list(self._applied),
            }

    def of(self, operation: Operation) -> FaultRule | None:
        """The first rule that applies to the operation. Counts it as met for each rule that concerns it."""
        with self._lock:
            chosen: int | None = None
            for number, rule in enumerate(self._rules):
                if (not rule.after or rule.after in self._happened) and rule.concerns(operation):
                    self._met[number] += 1
                    if chosen is None and self._applies(number, rule):
                        chosen = number
            if chosen is None:
                return None
            self._applied[chosen] += 1
            self._happened.add(self._rules[chosen].name)
            return self._rules[chosen]

    def _applies(self, number: int, rule: FaultRule) -> bool:
        if self._met[number] < rule.nth or (rule.times and self._applied[number] >= rule.times):
            return False
        return rule.probability >= 1.0 or self._random.random() < rule.probability
