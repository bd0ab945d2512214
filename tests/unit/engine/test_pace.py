"""Whether a storage answers at once."""

import time

from tcmu_runner.engine.pace import CAUTION, EXAMINED, MOST_CAUTION, SLOW, Pace, switches


class Thread:
    """A thread whose waits the test counts."""

    waits = 0

    def __call__(self) -> int:
        return self.waits


def do(pace: Pace, now: float, seconds: float, thread: Thread | None = None) -> None:
    """An operation; it waits when a thread is given."""
    pace.begin(now)
    if thread is not None:
        thread.waits += 1
    pace.end(now + seconds, 0)


def test_a_storage_that_waits_again_and_again_is_left_to_other_threads_for_a_while() -> None:
    thread = Thread()
    pace = Pace(waits=thread)
    do(pace, 10.0, 2 * SLOW, thread)
    assert pace.at_once(10.1), "once may happen, and nobody has looked"
    do(pace, 10.1, 2 * SLOW, thread)
    assert not pace.at_once(10.1 + CAUTION / 2)
    assert pace.at_once(10.2 + CAUTION)


def test_a_storage_that_is_slow_but_does_not_wait_stays() -> None:
    pace = Pace(waits=Thread())
    for second in range(100):
        do(pace, second, 0.5)
    assert pace.at_once(100)


def test_many_fast_operations_after_a_slow_one_end_the_suspicion() -> None:
    thread = Thread()
    pace = Pace(waits=thread)
    do(pace, 1, 2 * SLOW, thread)
    for _ in range(EXAMINED):
        do(pace, 2, SLOW / 2, thread)
    do(pace, 3, 2 * SLOW, thread)
    assert pace.at_once(3.1)


def test_a_large_copy_may_take_longer() -> None:
    """Even the slowest memory does 64 KiB in a millisecond: nobody looks whether the second one waits."""
    thread = Thread()
    pace = Pace(waits=thread)
    for start in (1.0, 2.0):
        pace.begin(start)
        thread.waits += 1
        pace.end(start + 1e-3, 65536)
    assert pace.at_once(2.1)


def test_what_is_under_way_can_be_seen() -> None:
    pace = Pace(waits=Thread())
    assert pace.busy_since is None
    pace.begin(5.0)
    assert pace.busy_since == 5.0
    pace.end(6.0, 0)
    assert pace.busy_since is None


def test_a_storage_that_holds_the_thread_up_is_left_to_others_until_it_has_answered() -> None:
    pace = Pace(waits=Thread())
    pace.begin(5.0)
    pace.held_up(7.0)
    assert pace.busy_since is None
    assert not pace.at_once(7.1 + CAUTION)
    pace.end(10.0, 512)
    assert not pace.at_once(10.0 + CAUTION / 2)
    assert pace.at_once(10.1 + CAUTION)


def test_one_that_answers_at_the_same_moment_is_not_left_to_others_for_ever() -> None:
    pace = Pace(waits=Thread())
    do(pace, 5.0, 1.5)
    pace.held_up(6.5)
    assert pace.at_once(6.5 + MOST_CAUTION)


def test_a_wait_is_counted_and_work_is_not() -> None:
    before = switches()
    time.sleep(0.001)
    assert switches() > before
