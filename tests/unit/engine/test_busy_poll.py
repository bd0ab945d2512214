"""When a ring's thread looks at the ring before it sleeps."""

from support.clock import ManualClock

from tcmu_runner.engine.serve.busy_poll import MOST_SKIPPED, BusyPoller

SECONDS = 1e-3


class Ring:
    """Counts the looks, of which each takes a tenth of SECONDS; has something from look number `due` on."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.looks, self.due = 0, 0

    def pending(self) -> bool:
        self.looks += 1
        self.clock.advance(SECONDS / 10)
        return 0 < self.due <= self.looks


def never() -> bool:
    return False


def test_it_sees_what_comes_while_it_looks() -> None:
    ring = Ring()
    ring.due = 3
    assert BusyPoller(ring.pending, SECONDS, ring.clock).sees(never)
    assert ring.looks == 3


def test_after_looks_in_vain_it_sleeps_more_and_more_often_at_once() -> None:
    """One may happen; from then on each costs 1, 3, 7, ... turns without a look."""
    ring = Ring()
    busy_poller = BusyPoller(ring.pending, SECONDS, ring.clock)
    looked = []
    for _ in range(200):
        before = ring.looks
        assert not busy_poller.sees(never)
        looked.append(ring.looks > before)
    assert looked[:14] == [True, True, False, True, False, False, False, True, *[False] * 6]
    assert sum(looked[-2 * (MOST_SKIPPED + 1) :]) == 2


def test_one_that_found_something_makes_up_for_all_before() -> None:
    ring = Ring()
    busy_poller = BusyPoller(ring.pending, SECONDS, ring.clock)
    for _ in range(200):
        busy_poller.sees(never)
    ring.due = 1
    while not busy_poller.sees(never):
        pass
    ring.due = 0
    looks = ring.looks
    assert not busy_poller.sees(never)
    assert ring.looks > looks
    looks = ring.looks
    assert not busy_poller.sees(never)
    assert ring.looks > looks


def test_it_does_not_look_while_threads_need_the_interpreter() -> None:
    ring = Ring()
    ring.due = 1
    assert not BusyPoller(ring.pending, SECONDS, ring.clock).sees(lambda: True)
    assert not ring.looks
