"""One LUN: handler, unit and pump together, from open to close."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from tcmu_runner.engine import neighbours
from tcmu_runner.engine.background import Background
from tcmu_runner.engine.deadlines import Deadlines
from tcmu_runner.engine.execution import AsyncExecutor, Executor, InlineExecutor, ThreadExecutor
from tcmu_runner.engine.loop import loop, run
from tcmu_runner.engine.pace import CAUTION, Pace
from tcmu_runner.engine.pump import Duties, Pump
from tcmu_runner.engine.ring_thread import RingThread
from tcmu_runner.engine.slowness import SlowLog
from tcmu_runner.engine.stack import Stack
from tcmu_runner.engine.statistics import SLOW_SECONDS, Statistics
from tcmu_runner.engine.storage import Perform
from tcmu_runner.engine.straight import StraightPath
from tcmu_runner.engine.transport import Transport
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import RawHandler
from tcmu_runner.handler.config import Late
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.handler.registry import Registry
from tcmu_runner.ring.consumer import Consumer
from tcmu_runner.ring.layout import Layout
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import HandleCommand, Operation, Plan, Steps
from tcmu_runner.scsi.sense import WRITE_ERROR, ScsiError, ScsiStatusError, Status
from tcmu_runner.scsi.unit import Identity, Limits, Unit

SPACE_SECONDS = 5.0  # between looks at the space below a LUN
BLOCK_SIZES = (512, 1024, 2048, 4096)
_ENDINGS = {Late.BUSY: ScsiStatusError(Status.BUSY), Late.ABORT: ScsiStatusError(Status.TASK_ABORTED)}


@dataclass(frozen=True, slots=True)
class Description:
    """What an administrator has configured. name: as in configfs, user_0/vol0. config: the whole string.

    size: bytes. identify: the unit's identity, asked at each INQUIRY.
    """

    name: str
    config: str
    size: int
    block_size: int = 512
    limits: Limits = field(default_factory=Limits)
    identify: Callable[[], Identity] = Identity

    def check(self) -> None:
        """Raises ConfigError for a geometry no initiator could use."""
        if self.block_size not in BLOCK_SIZES:
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ConfigError(f"hw_block_size={self.block_size} is not one of {sizes}")
        if self.size <= 0:
            raise ConfigError("dev_size is not set: write dev_size=BYTES to the device's control file")
        if self.size % self.block_size:
            raise ConfigError(f"dev_size={self.size} is not a multiple of the block size {self.block_size}")


class Lun:
    """`open` it, `attach` it to a ring; `detach` and `close` undo the two. Methods may block, and none may be
    called from the LUN's own threads."""

    def __init__(
        self,
        description: Description,
        stack: Stack,
        device: Device,
        *,
        time_out: int | None = None,
        late: Late = Late.LOG,
        slow: float | None = SLOW_SECONDS,
        statistics: Statistics | None = None,
    ) -> None:
        self.description = description
        self._time_out = time_out
        self._late = late
        self.device = device
        self.stack = stack
        self.statistics = statistics or Statistics()
        self._slow_log = SlowLog(device, self.statistics, slow)
        self.unit = Unit(
            description.block_size, description.size, DISK, stack.capabilities, description.identify,
            description.limits,
        )  # fmt: skip
        device.on_resized = self.unit.resize
        device.on_write_lost = self._write_lost
        self._pump: Pump | None = None
        self._consumer: Consumer | None = None
        self._background: Background  # for commands
        self._lookout: Background  # for `watch`
        self._space_seen = 0.0

    @classmethod
    def open(cls, description: Description, registry: Registry, statistics: Statistics | None = None) -> Lun:
        """Finds the handler and opens the storage. statistics: where to count. Raises TcmuError or OSError
        when the device is refused."""
        description.check()
        offer, parts = registry.find(description.config)
        device = Device(description.name, description.size, description.block_size)
        stack = Stack.open(offer, offer.parse(parts.rest), device)
        slow = SLOW_SECONDS if parts.slow is None else parts.slow or None
        return cls(
            description, stack, device,
            time_out=parts.time_out, late=parts.late, slow=slow, statistics=statistics,
        )  # fmt: skip

    def attach(
        self,
        transport: Transport,
        layout: Layout,
        broken: Callable[[Exception], None],
        nexus_of: Callable[[int], Nexus] | None = None,
        *,
        restart: Callable[[], None] | None = None,
        thread: RingThread | None = None,
    ) -> Pump:
        """Starts serving. Raises RingCorrupt when the shared memory is not a ring of version 2.

        nexus_of: tells over which nexus, of those the front end has added to the unit, a command came;
        without it there is one nexus, as behind LIO, which does not tell initiators apart, and resets of the
        logical unit come over the ring alone. restart: replaces the process that serves this LUN, where that
        can be done. thread: see Pump.start.
        """
        deadlines = self._deadlines(restart)
        reset: Callable[[], None] = _nothing
        if nexus_of is None:
            reset = partial(self.unit.reset, attention=None)  # LIO itself tells the initiators
            nexus = Nexus()
            self.unit.nexuses.add(nexus)
            nexus_of = lambda _id: nexus  # noqa: E731
        self._consumer = Consumer(transport.area(), layout)
        duties = Duties(
            self._starter(), nexus_of, self.unit.footprint, deadlines, self.statistics, broken, reset
        )
        self._pump = Pump(self.device, transport, self._consumer, duties)
        executor = self._executor(self._pump, Pace(thread.caution if thread is not None else CAUTION))
        self._pump.start(executor, self._straight_path(executor, self._pump), thread)
        return self._pump

    def _deadlines(self, restart: Callable[[], None] | None) -> Deadlines:
        if self._late is not Late.RESTART:
            return Deadlines(self.device, self._time_out, _ENDINGS.get(self._late))
        if restart is None:
            raise ConfigError("tcmur_late=restart needs a process of its own for each LUN: use busy or abort")
        return Deadlines(self.device, self._time_out, expired=restart)

    def _starter(self) -> Callable[[Command], Plan]:
        if isinstance(self.stack.handler, RawHandler):
            return lambda command: _raw_first(self.unit, command)
        return self.unit.begin

    def _executor(self, pump: Pump, pace: Pace) -> Executor:
        stack = self.stack
        if stack.asynchronous:
            perform_async = stack.perform_async(neighbours.perform_on)
            self._lend(pump, lambda operation: run(perform_async(operation)))
            return AsyncExecutor(perform_async, pump.finished, pump.publish, loop())
        perform = stack.perform(neighbours.perform_on)
        self._lend(pump, perform)
        if stack.threads == 0:
            return InlineExecutor(perform, pump.finished, pace)
        return ThreadExecutor(
            perform, pump.finished, pace, pump.publish,
            threads=stack.threads, name=self.device.name, apart=stack.blocks,
        )  # fmt: skip

    def _straight_path(self, executor: Executor, pump: Pump) -> StraightPath | None:
        """Where nothing is between unit and handler, and the ring's thread may call the handler."""
        handler = self.stack.direct
        if handler is None or handler.threads == 1:
            return None
        pace = executor.pace if handler.threads else None
        return StraightPath(self.unit, handler, pace, pump.ledger, pump.completer)

    def _lend(self, pump: Pump, perform: Perform) -> None:
        """What the storage does for others than commands: work in the background, copies to other LUNs."""
        self._background = Background(self.device, perform, pump.ledger.waiting)
        self._lookout = Background(self.device, perform)
        self.unit.spawn = self._background.spawn
        neighbours.enter(self.unit, perform, pump.ledger)

    def _write_lost(self, error: OSError) -> None:
        verdict = scsi_error(error, None)
        # BUSY and TASK SET FULL ask for another try, and there is nothing left that could be tried
        self.unit.defer(verdict.sense if isinstance(verdict, ScsiError) else WRITE_ERROR)

    def drain(self, seconds: float) -> bool:
        """Waits until all commands on the ring are answered; False when the time is up."""
        return self._pump is None or self._pump.drain(seconds)

    def watch(self) -> None:
        """To be called about every second by whoever owns the LUN: see Pump.watch."""
        if self._pump is not None:
            self._pump.watch()
            self._slow_log.tell()
            self._look_at_space()

    def _look_at_space(self) -> None:
        now = time.monotonic()
        if self.unit.watches_space and self._lookout.idle and now - self._space_seen > SPACE_SECONDS:
            self._space_seen = now
            self._lookout.spawn(self.unit.check_space())

    def detach(self) -> None:
        """Stops serving and lets go of the shared memory; commands on the ring stay where they are."""
        if self._pump is not None and self._consumer is not None:
            neighbours.leave(self.unit)
            self._background.stop()
            self._lookout.stop()
            self._pump.stop()
            self.unit.nexuses.clear()
            gc.collect()  # errors that handlers raised hold buffers by their tracebacks, often in a cycle
            self._consumer.release()
            self._pump = self._consumer = None

    def close(self) -> None:
        """Closes the storage; only after `detach`."""
        self.stack.close()

    def resize(self, size: int) -> None:
        """The administrator's new size. Raises ConfigError or OSError; then it is as before.

        A unit that shrinks does so before its storage: no command may reach what is being cut off.
        """
        replace(self.description, size=size).check()
        before = self.unit.size
        if size < before:
            self.unit.resize(size)
        try:
            self.stack.resize(size)
        except BaseException:
            self.unit.resize(before)
            raise
        self.unit.resize(size)


def _nothing() -> None:
    """For a front end that resets its units itself."""


def _raw_first(unit: Unit, command: Command) -> Steps:
    """A raw handler sees every command before the unit does."""
    operation = HandleCommand(command)
    yield operation
    if not operation.handled:
        plan = unit.begin(command)
        if isinstance(plan, Operation):
            yield plan
        elif plan is not None:
            yield from plan
    elif operation.status != Status.GOOD:
        raise ScsiStatusError(Status(operation.status))
