"""A LUN with its ring in this process: our producer takes the kernel's place.

Everything but `kick` is called on one thread, the loop's, which is also the ring's thread of the engine
(RingDispatcher.start): if the handler does not block, a command is answered without any change of thread.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Callable, Sequence

from tcmu_runner.engine.lun import Lun
from tcmu_runner.engine.serve.dispatcher import RingDispatcher
from tcmu_runner.engine.serve.transport import unmap
from tcmu_runner.ring.layout import LP64, TmrType
from tcmu_runner.ring.producer import Producer, Ticket
from tcmu_runner.scsi.command import Nexus

RING_SIZE = 1 << 20
DATA_SIZE = 128 << 20  # of the data area; memory is used as far as commands under way need it
WATCH_SECONDS = 1.0


class LocalCommand(Ticket):
    """One that is submitted here. nexus: over which it came."""

    nexus: Nexus | None = None


class LocalLun:
    """`start` it on the loop, `submit` commands, then `run`, which returns those that have ended; `stop` it
    after its last command."""

    def __init__(self, lun: Lun) -> None:
        self.lun = lun
        self.unit = lun.unit
        self.block_size = lun.unit.block_size
        self._memory = os.memfd_create("tcmu-ring", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, RING_SIZE + DATA_SIZE)
        self._map = mmap.mmap(self._memory, RING_SIZE + DATA_SIZE)
        self._producer = Producer(memoryview(self._map), RING_SIZE)
        self.commands = 0  # so far
        self._dispatcher: RingDispatcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.TimerHandle
        self._serve: Callable[[], None]
        self._reaping = False  # whether `run` is coming anyway
        self._ended: list[Ticket] = []  # not yet returned by `run`
        self.broken: Exception | None = None  # why it serves no more

    # The engine's Transport

    def area(self) -> memoryview:
        return memoryview(self._map)

    def fileno(self) -> int:
        return self._memory

    def kick(self) -> None:
        """Completions were published: by `run` itself, or by a worker thread."""
        loop = self._loop
        if not self._reaping and loop is not None:
            self._reaping = True
            loop.call_soon_threadsafe(self._serve)

    # The portal's side

    def start(self, loop: asyncio.AbstractEventLoop, serve: Callable[[], None]) -> None:
        """serve: calls `run`, and answers the commands that have ended."""
        self._loop, self._serve = loop, serve
        self._dispatcher = self.lun.attach(self, LP64, self._fail, self._nexus_of)
        loop.add_reader(self._dispatcher.wake_fd, self._woken)
        self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """The engine's look at what takes too long."""
        self.lun.watch()
        self._watching = loop.call_later(WATCH_SECONDS, self._watch, loop)

    def _nexus_of(self, command_id: int) -> Nexus:
        command = self._producer.ticket(command_id)
        assert isinstance(command, LocalCommand) and command.nexus is not None
        return command.nexus

    def submit(self, command: LocalCommand) -> None:
        """Puts a command on the ring; `run` returns it when it has ended. `data_out` is copied.

        It has a status if it was refused, and is not returned then.
        """
        self.commands += 1
        self._producer.post(command)
        if not command.id and command.status is None:
            command.data_out = memoryview(bytes(command.data_out))  # the buffer will hold other data soon

    def abort(self, function: TmrType, commands: Sequence[LocalCommand]) -> None:
        """Task management: the engine hears which commands nobody waits for. They still end; then
        `run` returns them."""
        self._ended += self._producer.task_management(function, commands)

    def in_flight(self) -> list[Ticket]:
        """The commands that were submitted, and have not ended."""
        return self._producer.tickets()

    def run(self) -> list[Ticket]:
        """Serves what is on the ring. The commands that have ended since the last time."""
        producer = self._producer
        while True:
            self._reaping = True
            while producer.event_due() and self.broken is None:
                self._poll()
                self._ended += producer.reap()
            self._reaping = False
            late = producer.reap()  # what worker threads published while their kicks were not heard
            if not late:
                break
            self._ended += late
        ended, self._ended = self._ended, []
        return ended

    def _woken(self) -> None:
        assert self._dispatcher is not None
        os.eventfd_read(self._dispatcher.wake_fd)
        self._poll()
        self._serve()

    def _poll(self) -> None:
        assert self._dispatcher is not None
        try:
            while self._dispatcher.poll():
                pass
        except Exception as error:
            self._fail(error)

    def reset(self) -> None:
        """A logical unit reset, after the unit's tasks have ended."""
        self.unit.reset()

    def _fail(self, error: Exception) -> None:
        """The engine is out of step with the ring: from now on no command reaches the storage."""
        self.broken = error
        self.lun.device.log.error("ring cannot be served: %s: start the LUN anew", error)
        self._ended += self._producer.reset(2) + self._producer.block()
        self.kick()

    def leave(self) -> None:
        """Call before the loop ends: commands that finish later are not answered."""
        if self._loop is not None and self._dispatcher is not None:
            self._loop.remove_reader(self._dispatcher.wake_fd)
            self._watching.cancel()
            self._loop = None

    def stop(self) -> None:
        """Ends the engine's part, after `leave`; waits for commands that are with the handler."""
        self.lun.detach()
        self.lun.close()
        self._producer.release()
        unmap(self._map, self.lun.device.log)
        os.close(self._memory)
