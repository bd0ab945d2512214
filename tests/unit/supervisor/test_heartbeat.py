"""When the daemon beats and when it rests, on a loop whose time jumps."""

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

from support.clock import pass_by, run

from tcmu_runner.guardian.guardian import Guardian
from tcmu_runner.kernel.ring_monitor import RingMonitor
from tcmu_runner.kernel.uio import UioDevice
from tcmu_runner.supervisor.heartbeat import BEAT_SECONDS, QUIET_BEATS, Heartbeat

LONG = 20 * BEAT_SECONDS  # in which somebody who beats has done so many times
NEVER = 3600.0
FALLEN_ASLEEP = ["beat"] * QUIET_BEATS + ["rest"]


class Bench:
    """A daemon with one device; `stirs` answers as the list says, then as `stirring`. beat: seconds."""

    def __init__(self, uio: UioDevice, beat: float = BEAT_SECONDS) -> None:
        self.uio = uio
        self.stirring = False
        self.script: list[Callable[[], bool]] = []
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs.setblocking(False)
        self.guardian, self.ring_monitor = Guardian(ours, -1), RingMonitor()
        self.ring_monitor.add(uio)
        self.heartbeat = Heartbeat(self.guardian, self.ring_monitor, self._stirs, beat)

    def _stirs(self) -> bool:
        return self.script.pop(0)() if self.script else self.stirring

    def ring(self) -> bool:
        os.eventfd_write(self.uio.fileno(), 1)
        return False

    def heard(self) -> list[str]:
        """By the guardian, since it was asked last."""
        words = []
        while True:
            try:
                words.append(self._theirs.recv(64).decode())
            except BlockingIOError:
                return words

    async def hears(self, *words: str) -> None:
        """And nothing else, for long."""
        await pass_by(LONG)
        assert self.heard() == list(words)

    def close(self) -> None:
        self.guardian.say_goodbye()
        self._theirs.close()


Life = Callable[[Bench], Awaitable[None]]


def live(life: Life, beat: float = BEAT_SECONDS) -> None:
    with closing(UioDevice(0, os.eventfd(0))) as uio, closing(Bench(uio, beat)) as bench:

        async def main() -> None:
            bench.heartbeat.start()
            await life(bench)
            bench.heartbeat.stop()

        run(main())


def test_it_beats_while_anything_stirs() -> None:
    async def life(bench: Bench) -> None:
        bench.stirring = True
        await pass_by(LONG)
        heard = bench.heard()
        assert set(heard) == {"beat"}
        assert len(heard) > QUIET_BEATS

    live(life)


def test_it_rests_after_some_quiet_beats_in_a_row() -> None:
    async def life(bench: Bench) -> None:
        quiet, busy = [lambda: False] * (QUIET_BEATS - 2), [lambda: True]
        bench.script = quiet + busy + quiet + busy  # after the first beat, which is quiet, too
        await bench.hears(*["beat"] * (1 + len(bench.script) + QUIET_BEATS), "rest")

    live(life)


def test_a_command_wakes_it_and_then_it_rests_again() -> None:
    async def life(bench: Bench) -> None:
        await bench.hears(*FALLEN_ASLEEP)
        for _ in range(2):
            bench.ring()
            await bench.hears(*FALLEN_ASLEEP)

    live(life)


def test_it_beats_as_long_as_the_command_that_woke_it_is_unanswered() -> None:
    async def life(bench: Bench) -> None:
        await bench.hears(*FALLEN_ASLEEP)
        bench.stirring = True
        bench.ring()
        await pass_by(LONG)
        heard = bench.heard()
        assert len(heard) > QUIET_BEATS
        assert set(heard) == {"beat"}

    live(life)


def test_commands_while_it_is_awake_wake_nobody() -> None:
    async def life(bench: Bench) -> None:
        bench.ring()
        await bench.hears("beat")  # of the start

    live(life, beat=NEVER)


def test_what_comes_between_the_last_look_and_the_rest_is_not_missed() -> None:
    async def life(bench: Bench) -> None:
        quiet = [lambda: False] * (QUIET_BEATS - 1)  # after the first beat, which is quiet, too
        bench.script = [*quiet, lambda: True]  # it came before the alarm was set, and is seen on its ring
        await bench.hears(*["beat"] * QUIET_BEATS, *FALLEN_ASLEEP)
        bench.script = [*quiet, lambda: False, bench.ring]  # it comes after that
        bench.ring()
        await bench.hears(*FALLEN_ASLEEP, *FALLEN_ASLEEP)

    live(life)


def test_to_be_woken_is_to_beat_at_once() -> None:
    async def life(bench: Bench) -> None:
        bench.heartbeat.wake()
        assert bench.heard() == ["beat"]  # of the start: it is awake
        await bench.hears(*FALLEN_ASLEEP[1:])
        for _ in range(2):
            bench.heartbeat.wake()
        assert bench.heard() == ["beat"]
        await bench.hears(*FALLEN_ASLEEP[1:])

    live(life)


def test_to_be_woken_after_a_command_is_to_beat_at_once_too() -> None:
    """Until then the guardian thinks that it rests."""

    async def life(bench: Bench) -> None:
        await bench.hears(*FALLEN_ASLEEP)
        bench.ring()
        await pass_by(BEAT_SECONDS / 2)
        assert bench.heard() == []
        bench.heartbeat.wake()
        assert bench.heard() == ["beat"]
        await bench.hears(*FALLEN_ASLEEP[1:])  # the beat that the command would have brought does not come

    live(life)


def test_a_pulse_that_is_stopped_stays_so() -> None:
    async def life(bench: Bench) -> None:
        bench.heartbeat.stop()
        assert bench.heard() == ["beat"]
        await bench.hears()

    live(life)


def test_a_rest_that_is_stopped_is_disturbed_by_nothing() -> None:
    async def life(bench: Bench) -> None:
        await bench.hears(*FALLEN_ASLEEP)
        bench.heartbeat.stop()
        bench.ring()
        await bench.hears()

    live(life)
