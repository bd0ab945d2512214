"""`retry`: repeats operations that failed for a passing reason, before initiators see the error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.op_names import text
from tcmu_runner.filters.options import parse_table
from tcmu_runner.handler.device import Device, DeviceLog
from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.handler.filter import Filter
from tcmu_runner.scsi.operations import Operation, Pause, Steps
from tcmu_runner.scsi.sense import ScsiStatusError


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """attempts: of one operation, in all. seconds: before the second one; longest: at most between two."""

    attempts: int = 5
    seconds: float = 0.1
    longest: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError("option attempts = 0: write 1 or more")


class Retry(Filter[RetryOptions]):
    """Repeats an operation that failed for a reason which may pass: a lost connection, a time-out, a full
    queue; that is, an error that would end the command in BUSY or TASK SET FULL. Other errors pass at once.

      attempts   how often one operation is tried (5)
      seconds    how long before the second attempt (0.1); each further pause is twice as long
      longest    the longest pause (5)

    Linux gives up after its own time-out of 30 s: keep the sum of the pauses below it.

    Example: { filter = "retry", attempts = 8, seconds = 0.05 }
    """

    name = "retry"
    threads: ClassVar[int] = 16

    def __init__(self, options: RetryOptions, log: DeviceLog) -> None:
        self._options = options
        self._log = log

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> RetryOptions:
        return parse_table(RetryOptions, table)

    @classmethod
    def open(cls, device: Device, options: RetryOptions) -> Self:
        return cls(options, device.log)

    def handle(self, operation: Operation) -> Steps:
        pause = self._options.seconds
        for left in reversed(range(self._options.attempts)):
            try:
                yield operation
            except (OSError, ScsiStatusError) as error:
                if not left or not _may_pass(error, operation):
                    raise
                self._log.info("%s failed: %s; once more in %.2f s", text(operation), error, pause)
            else:
                return
            yield Pause(pause)
            pause = min(2 * pause, self._options.longest)


def _may_pass(error: OSError | ScsiStatusError, operation: Operation) -> bool:
    return isinstance(error, ScsiStatusError) or isinstance(scsi_error(error, operation), ScsiStatusError)
