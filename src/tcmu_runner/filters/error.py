"""`error`: faults on demand."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.faults import FaultRule, Faults
from tcmu_runner.filters.op_names import text
from tcmu_runner.handler.device import Device, DeviceLog
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Pause, Read, Steps, Unmap, Write, WriteZeroes


@dataclass(frozen=True, slots=True)
class ErrorOptions:
    """file: with more rules, read again when it has changed; None: no file."""

    rules: tuple[FaultRule, ...]
    seed: int = 0
    file: Path | None = None


class Error(Filter[ErrorOptions]):
    """Makes operations fail by rules: by kind, place, count, chance and order; with any sense or status;
    late, short, torn, or reported as done without being done.

      rules   a list of tables; the first one that applies to an operation is used
      seed    of the random numbers for `probability` (0): the same seed, the same faults
      file    a TOML file with rules = [...]; once it exists it replaces the rules here; after a change it is
              read again before the next operation

    Conditions: on = "read" (write, flush, unmap, write_zeroes, extents, "read write", any), offset and length
    (bytes), nth (from the nth on), times (how often), probability, name, and after = NAME (once the rule of
    that name was applied). Effects: sense = "3/11/00", status = "busy" or errno = "ENOSPC", with done = BYTES
    transferred first; lose = true; delay = SECONDS.

    Examples: { filter = "error", rules = [{ on = "read", offset = "1M", length = 512, sense = "3/11/00" }] }
              { filter = "error", rules = [{ on = "write", nth = 9, times = 1, errno = "EIO", done = 512 }] }
    """

    name = "error"
    threads: ClassVar[int] = 16

    def __init__(self, options: ErrorOptions, block_size: int, log: DeviceLog) -> None:
        self._faults = Faults(_whole_blocks(options.rules, block_size), options.seed)
        self._block_size = block_size
        self._file = options.file
        self._stamp: tuple[int, int] | None = None
        self._log = log

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> ErrorOptions:
        unknown = sorted(set(table) - {"rules", "seed", "file"})
        if unknown:
            raise ConfigError(f"no option {unknown[0]!r}; there are: file, rules, seed")
        seed, file = table.get("seed", 0), table.get("file")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ConfigError(f"option seed = {seed!r}: write a whole number")
        if file is not None and not (isinstance(file, str) and file.startswith("/")):
            raise ConfigError(f"option file = {file!r}: write an absolute path")
        return ErrorOptions(_rules(table.get("rules", [])), seed, Path(file) if file else None)

    @classmethod
    def open(cls, device: Device, options: ErrorOptions) -> Self:
        return cls(options, device.block_size, device.log)

    def handle(self, operation: Operation) -> Steps:
        self._look_at_file()
        rule = self._faults.of(operation)
        if rule is None:
            yield operation
            return
        self._log.info("%s: fault %s", text(operation), rule.name or rule.sense or rule.status or rule.errno)
        if rule.delay:
            yield Pause(rule.delay)
        error = rule.error()
        if error is None and not rule.lose:
            yield operation
        if error is not None:
            yield from _beginning(operation, rule.done)
            raise error

    def control(self, table: Mapping[str, object]) -> Mapping[str, object]:
        """rules: replaces the rules. Returns the rules, and how often each was met and applied."""
        if unknown := sorted(set(table) - {"rules"}):
            raise ConfigError(f"no option {unknown[0]!r}; only rules can be changed")
        if "rules" in table:
            self._faults.set(_whole_blocks(_rules(table["rules"]), self._block_size))
        return self._faults.told()

    def _look_at_file(self) -> None:
        """Reads the file again if it has changed; keeps the old rules if it cannot be parsed."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            stamp = status.st_mtime_ns, status.st_size
            if stamp != self._stamp:
                self._stamp = stamp
                rules = _rules(tomllib.loads(self._file.read_text()).get("rules", []))
                self._faults.set(_whole_blocks(rules, self._block_size))
                self._log.info("%s: applied its rules", self._file)
        except FileNotFoundError:
            return
        except (OSError, ValueError, ConfigError) as error:
            self._log.error("%s: %s: the old rules stay", self._file, error)


def _rules(tables: object) -> tuple[FaultRule, ...]:
    if not isinstance(tables, list):
        raise ConfigError('rules: write a list, [{ on = "read", sense = "3/11/00" }]')
    return tuple(_numbered(tables))


def _numbered(tables: list[object]) -> Iterator[FaultRule]:
    for number, table in enumerate(tables, 1):
        try:
            yield FaultRule.parse(table)
        except ConfigError as error:
            raise ConfigError(f"rule {number}: {error}") from None


def _whole_blocks(rules: tuple[FaultRule, ...], block_size: int) -> tuple[FaultRule, ...]:
    """Raises ConfigError unless each `done` is whole blocks: the storage below takes nothing else."""
    for rule in rules:
        if rule.done % block_size:
            raise ConfigError(f"done = {rule.done}: write whole blocks, of {block_size} bytes each")
    return rules


def _beginning(operation: Operation, length: int) -> Steps:
    """Yields the first `length` bytes of an operation, if it has a range."""
    match operation:
        case Read() if length:
            yield Read(operation.offset, iov.cut(operation.into, 0, length))
        case Write() if length:
            yield Write(operation.offset, iov.cut(operation.data, 0, length))
        case Unmap() | WriteZeroes() if length:
            yield replace(operation, length=min(length, operation.length))
