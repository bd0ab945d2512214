"""The fast path of plain READs and WRITEs: without the generality that costs more than the transfer does.

It does on the ring's thread what unit, plan and executor do together, for a storage that answers at once.
Every line here is run for every command: it is written to be short to run, before all else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from tcmu_runner import iov
from tcmu_runner.clock import MACHINE, Clock
from tcmu_runner.engine.serve.inflight import Completions, InFlight, Job
from tcmu_runner.engine.storage.blocking import BlockingDetector
from tcmu_runner.engine.storage.buffer_guard import calls
from tcmu_runner.engine.storage.executors import SMALL
from tcmu_runner.handler.api import Handler
from tcmu_runner.ring.consumer import TaskManagement
from tcmu_runner.scsi.operations import Read, Write
from tcmu_runner.scsi.unit import Unit

# for so many commands, and so much of their data, the doorbell is rung once: the initiator goes on meanwhile
AT_ONCE = 8
BYTES_AT_ONCE = 1 << 20


class FastPath:
    """For a unit without filters over a handler that the ring's thread may call. detector: None if the
    handler never blocks.

    Consecutive commands on adjacent blocks become one call of the handler.
    """

    def __init__(
        self,
        unit: Unit,
        handler: Handler[Any],
        detector: BlockingDetector | None,
        in_flight: InFlight,
        completions: Completions,
        *,
        clock: Clock = MACHINE,
    ) -> None:
        self._unit = unit
        self._read, self._write, _ = calls(handler)
        self._detector = detector
        self._in_flight = in_flight
        self._publish = completions.publish
        self._now = clock.monotonic
        self.queue: deque[Job] = deque()

    def take(self, batch: list[Job | TaskManagement], now: float) -> int:
        """Queues the plain commands up to the first other one: so many. Ring's thread."""
        unit, detector = self._unit, self._detector
        if not unit.undisturbed() or not (detector is None or detector.at_once(now)):
            return 0
        queue, under_way, plain, taken = self.queue, self._in_flight.under_way, unit.plain, 0
        for job in batch:
            if isinstance(job, TaskManagement):
                break
            data = job.data
            length = len(data[0]) if len(data) == 1 else iov.length(data)
            found = plain(job.cdb, length)
            if found is None or length > SMALL:
                break
            job.row, job.offset = found
            job.end = job.offset + length
            job.writes = found[0].writes
            job.began = now
            under_way.add(job)
            queue.append(job)
            taken += 1
        return taken

    def work(self, mine: Callable[[], bool], now: float) -> Iterable[Job]:
        """Does queued commands on the ring's thread, while it is `mine` and the storage does not block. Then
        removes and returns the others, for the general path, unless another thread has taken over. now: when
        they were fetched; a lone command begins then, since a look at the clock may be a system call."""
        queue, detector, clock = self.queue, self._detector, self._now
        if detector is None:
            self.finish()
            return ()
        if len(queue) > 1:
            now = clock()
        while queue and detector.at_once(now) and mine():
            detector.begin(now)
            length = self._do_some()
            now = clock()
            detector.end(now, length)
            self._publish(now)
            if queue:
                now = clock()
        return self._give_back() if queue and mine() else ()

    def finish(self) -> None:
        """Does all queued commands. Any thread, also several at once."""
        while self.queue:
            self._do_some()
            self._publish()

    def _give_back(self) -> Iterator[Job]:
        """Removes the commands that have not begun from the queue."""
        with suppress(IndexError):  # another thread took the last one
            while True:
                job = self.queue.popleft()
                self._in_flight.leave([job])
                yield job

    def _do_some(self) -> int:
        """Does commands to be published together; returns their bytes."""
        queue, total, count = self.queue, 0, 0
        done: list[Job] = []  # of one opcode
        length = 0
        while queue and count < AT_ONCE and total < BYTES_AT_ONCE:
            try:
                job = queue.popleft()
            except IndexError:  # another thread took the last one
                break
            if done and done[0].cdb[0] != job.cdb[0]:
                self._in_flight.end_together(done, length)
                done, length = [], 0
            if (queue and queue[0].offset == job.end) or job.withdrawn is not None:
                jobs = self._with_neighbours(job)
                ended = self._do_together(jobs)
                done += ended
                count += len(jobs)
                size = sum([each.end - each.offset for each in ended])
            else:
                try:
                    (self._write if job.writes else self._read)(job.data, job.offset)
                except BaseException as error:
                    self._failed(job, error)
                    continue
                done.append(job)
                count += 1
                size = job.end - job.offset
            length += size
            total += size
        if done:
            self._in_flight.end_together(done, length)
        return total

    def _with_neighbours(self, first: Job) -> list[Job]:
        """Takes the commands from the queue that continue where the one before ends."""
        queue, jobs = self.queue, [first]
        try:
            while (
                (last := jobs[-1]).withdrawn is None
                and (after := queue[0]).offset == last.end
                and after.cdb[0] == first.cdb[0]
                and after.end - first.offset <= SMALL
                and len(jobs) < AT_ONCE
            ):
                jobs.append(queue.popleft())
        except IndexError:  # the queue is empty
            pass
        return jobs

    def _do_together(self, jobs: list[Job]) -> list[Job]:
        """One call of the handler for all; if it fails, one for each. Returns the commands that succeeded."""
        call = self._write if jobs[0].writes else self._read
        if len(jobs) > 1 and jobs[-1].withdrawn is None:
            try:
                call([part for job in jobs for part in job.data], jobs[0].offset)
            except Exception:  # `_done_alone` finds out which command fails
                pass
            else:
                return jobs
        return [job for job in jobs if self._done_alone(job)]

    def _done_alone(self, job: Job) -> bool:
        if job.withdrawn is not None:
            self._in_flight.end(job, job.withdrawn)
            return False
        try:
            (self._write if job.writes else self._read)(job.data, job.offset)
        except BaseException as error:
            self._failed(job, error)
            return False
        return True

    def _failed(self, job: Job, error: BaseException) -> None:
        job.descriptor_sense = self._unit.mode.descriptor_sense
        kind = Write if job.writes else Read
        self._in_flight.end(job, error, kind(job.offset, job.data))
