"""One LUN: handler, unit and dispatcher together, from open to close."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tcmu_runner.aio import loop, run
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.observe.command_log import SlowLog
from tcmu_runner.engine.observe.statistics import SLOW_SECONDS, Statistics
from tcmu_runner.engine.serve.dispatcher import RingDispatcher
from tcmu_runner.engine.serve.fast_path import FastPath
from tcmu_runner.engine.serve.late import Deadlines
from tcmu_runner.engine.serve.ring_thread import RingThread
from tcmu_runner.engine.serve.transport import Transport
from tcmu_runner.engine.storage.background import Background, perform_on, refuse_copies, take_copies
from tcmu_runner.engine.storage.blocking import CAUTION, BlockingDetector
from tcmu_runner.engine.storage.executors import Executor, InlineExecutor, ThreadExecutor
from tcmu_runner.engine.storage.on_loop import AsyncExecutor
from tcmu_runner.engine.storage.perform import Perform
from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.engine.unit_memory import UnitMemory
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.api import RawHandler
from tcmu_runner.handler.config import Late
from tcmu_runner.handler.device import Device, Origin
from tcmu_runner.handler.errnos import scsi_error
from tcmu_runner.handler.registry import Registry
from tcmu_runner.ring.consumer import Consumer
from tcmu_runner.ring.layout import Layout
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.operations import HandleCommand, Operation, Plan, Steps
from tcmu_runner.scsi.sense import WRITE_ERROR, ScsiError, ScsiStatusError, Status
from tcmu_runner.scsi.unit import Identity, Limits, Unit
from tcmu_runner.units import LARGEST

SPACE_SECONDS = 5.0  # between checks of the free space below a LUN
BLOCK_SIZES = (512, 1024, 2048, 4096)
_ENDINGS = {Late.BUSY: ScsiStatusError(Status.BUSY), Late.ABORT: ScsiStatusError(Status.TASK_ABORTED)}


@dataclass(frozen=True, slots=True)
class Description:
    """An administrator's configuration. name: as in configfs, user_0/vol0. config: the whole string. size:
    bytes. identify: returns the unit's identity; called at each INQUIRY. origin: why the LUN is opened.
    """

    name: str
    config: str
    size: int
    block_size: int = 512
    limits: Limits = field(default_factory=Limits)
    identify: Callable[[], Identity] = Identity
    origin: Origin = Origin.NEW

    def check(self) -> None:
        """Raises ConfigError for a geometry no initiator could use."""
        if self.block_size not in BLOCK_SIZES:
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ConfigError(f"hw_block_size={self.block_size} is not one of {sizes}")
        if self.size <= 0:
            raise ConfigError("dev_size is not set: write dev_size=BYTES to the device's control file")
        if self.size > LARGEST:
            raise ConfigError(
                f"dev_size={self.size} is more than {LARGEST} bytes, the most there can be: set a smaller one"
            )
        if self.size % self.block_size:
            raise ConfigError(f"dev_size={self.size} is not a multiple of the block size {self.block_size}")


class RawUnit(Unit):
    """The unit of a raw handler, which gets every command before the unit does."""

    __slots__ = ()

    def begin(self, command: Command) -> Plan:
        return self._ask_handler(command)

    def _ask_handler(self, command: Command) -> Steps:
        operation = HandleCommand(command)
        yield operation
        if not operation.handled:
            plan = Unit.begin(self, command)
            if isinstance(plan, Operation):
                yield plan
            elif plan is not None:
                yield from plan
        elif operation.status != Status.GOOD:
            raise ScsiStatusError(Status(operation.status))


class Lun:
    """Call `open`, then `attach` with a ring; `detach` and `close` undo the two. Methods may block. Do not
    call them on the LUN's own threads."""

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
        self._clock = device.clock
        self.device = device
        self.stack = stack
        self.statistics = statistics or Statistics()
        self._slow_log = SlowLog(device, self.statistics, slow)
        unit = RawUnit if isinstance(stack.handler, RawHandler) else Unit
        self.unit = unit(
            description.block_size, description.size, DISK, stack.capabilities, description.identify,
            description.limits,
        )  # fmt: skip
        device.on_resized = self.unit.resize
        device.on_write_lost = self._write_lost
        self._dispatcher: RingDispatcher | None = None
        self._consumer: Consumer | None = None
        self._background: Background  # started by commands
        self._space_look: Background  # started by `watch`
        self._space_seen = 0.0

    @classmethod
    def open(
        cls,
        description: Description,
        registry: Registry,
        statistics: Statistics | None = None,
        clock: Clock = MACHINE,
    ) -> Lun:
        """Finds the handler and opens the storage. statistics: for counters; None: private ones. Raises
        TcmuError or OSError when the device is refused."""
        description.check()
        provider, parts = registry.find(description.config)
        device = Device(
            description.name, description.size, description.block_size,
            config=description.config, origin=description.origin, clock=clock,
        )  # fmt: skip
        stack = Stack.open(provider, provider.parse(parts.rest), device)
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
        memory: UnitMemory | None = None,
    ) -> RingDispatcher:
        """Starts serving. Raises RingCorrupt when the shared memory is not a ring of version 2.

        nexus_of: returns the nexus of a command, by its id; the front end has added it to the unit. None: one
        nexus, as behind LIO, which does not tell initiators apart, and LOGICAL UNIT RESET arrives only on the
        ring. restart: replaces the process that serves this LUN, if that is possible. thread: see
        RingDispatcher.start. memory: the unit's state from an earlier process, only without nexus_of; the
        caller closes it after `close`. Also raises OSError if it cannot be read.
        """
        deadlines = self._deadlines(restart)
        if nexus_of is None:
            nexus = Nexus()
            self.unit.nexuses = {nexus}
            if memory is not None:
                memory.attach(self.unit, nexus, self.device, volatile=self.stack.handler.volatile)
        self._consumer = Consumer(transport.area(), layout)
        self._dispatcher = RingDispatcher(
            self.unit, self.device, transport, self._consumer,
            deadlines=deadlines, statistics=self.statistics, broken=broken, nexus_of=nexus_of,
            clock=self._clock,
        )  # fmt: skip
        executor = self._executor(
            self._dispatcher, BlockingDetector(thread.caution if thread is not None else CAUTION)
        )
        self._dispatcher.start(executor, self._fast_path_of(executor, self._dispatcher), thread)
        return self._dispatcher

    def _deadlines(self, restart: Callable[[], None] | None) -> Deadlines:
        if self._late is not Late.RESTART:
            return Deadlines(self.device, self._time_out, _ENDINGS.get(self._late), clock=self._clock)
        if restart is None:
            raise ConfigError("tcmur_late=restart needs a process of its own for each LUN: use busy or abort")
        return Deadlines(self.device, self._time_out, expired=restart, clock=self._clock)

    def _executor(self, dispatcher: RingDispatcher, detector: BlockingDetector) -> Executor:
        stack, end, publish = self.stack, dispatcher.in_flight.end, dispatcher.completions.publish
        if stack.asynchronous:
            perform_async = stack.perform_async(perform_on)
            self._lend(dispatcher, lambda operation: run(perform_async(operation)))
            return AsyncExecutor(perform_async, end, publish, loop())
        perform = stack.perform(perform_on, self._clock)
        self._lend(dispatcher, perform)
        if stack.threads == 0:
            return InlineExecutor(perform, end, detector)
        return ThreadExecutor(
            perform, end, detector, publish,
            threads=stack.threads, name=self.device.name, apart=stack.blocks, clock=self._clock,
        )  # fmt: skip

    def _fast_path_of(self, executor: Executor, dispatcher: RingDispatcher) -> FastPath | None:
        """None if filters are in between, or the ring's thread must not call the handler."""
        handler = self.stack.direct
        if handler is None or handler.threads == 1:
            return None
        detector = executor.detector if handler.threads else None
        in_flight, completions = dispatcher.in_flight, dispatcher.completions
        return FastPath(self.unit, handler, detector, in_flight, completions, clock=self._clock)

    def _lend(self, dispatcher: RingDispatcher, perform: Perform) -> None:
        """Gives the unit what it needs of the storage outside of commands: background work, copies."""
        self._background = Background(self.device, perform, dispatcher.in_flight)
        self._space_look = Background(self.device, perform)
        self.unit.spawn = self._background.spawn
        take_copies(self.unit, perform, dispatcher.in_flight, self._clock)

    def _write_lost(self, error: OSError) -> None:
        answer = scsi_error(error, None)
        # BUSY and TASK SET FULL ask the initiator to retry, but the write was answered: report a lost write
        self.unit.defer(answer.sense if isinstance(answer, ScsiError) else WRITE_ERROR)

    def drain(self, seconds: float) -> bool:
        """Waits until all commands on the ring are answered; False after `seconds`."""
        return self._dispatcher is None or self._dispatcher.drain(seconds)

    def watch(self) -> None:
        """Call about every second: see RingDispatcher.watch."""
        if self._dispatcher is not None:
            self._dispatcher.watch()
            self._slow_log.tell()
            self._look_at_space()

    def _look_at_space(self) -> None:
        now = self._clock.monotonic()
        if self.unit.watches_space and self._space_look.idle and now - self._space_seen > SPACE_SECONDS:
            self._space_seen = now
            self._space_look.spawn(self.unit.check_space())

    def detach(self) -> None:
        """Stops serving and releases the shared memory; commands on the ring stay there."""
        if self._dispatcher is not None and self._consumer is not None:
            refuse_copies(self.unit)
            self._background.stop()
            self._space_look.stop()
            self._dispatcher.stop()
            gc.collect()  # tracebacks of handlers' errors hold buffers, often in a reference cycle
            self._consumer.release()
            self._dispatcher = self._consumer = None

    def close(self) -> None:
        """Closes the storage. Call after `detach`."""
        self.stack.close()
        self.unit.nexuses.clear()

    def resize(self, size: int) -> None:
        """Applies the administrator's new size. Raises ConfigError or OSError: the size has not changed.

        A unit shrinks before its storage: no command may reach the part that is cut off.
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
