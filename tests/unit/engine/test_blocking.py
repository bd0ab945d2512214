"""Whether a storage answers at once."""

from support.waiting import until

from tcmu_runner.engine.storage.blocking import (
    CAUTION,
    EXAMINED,
    MOST_CAUTION,
    SLOW,
    BlockingDetector,
    switches,
)


class Thread:
    """A thread whose waits the test counts."""

    waits = 0

    def __call__(self) -> int:
        return self.waits


def do(detector: BlockingDetector, now: float, seconds: float, thread: Thread | None = None) -> None:
    """An operation; it waits when a thread is given."""
    detector.begin(now)
    if thread is not None:
        thread.waits += 1
    detector.end(now + seconds, 0)


def test_a_storage_that_waits_again_and_again_is_left_to_other_threads_for_a_while() -> None:
    thread = Thread()
    detector = BlockingDetector(waits=thread)
    do(detector, 10.0, 2 * SLOW, thread)
    assert detector.at_once(10.1), "once may happen, and nobody has looked"
    do(detector, 10.1, 2 * SLOW, thread)
    assert not detector.at_once(10.1 + CAUTION / 2)
    assert detector.at_once(10.2 + CAUTION)


def test_a_storage_that_is_slow_but_does_not_wait_stays() -> None:
    detector = BlockingDetector(waits=Thread())
    for second in range(100):
        do(detector, second, 0.5)
    assert detector.at_once(100)


def test_many_fast_operations_after_a_slow_one_end_the_suspicion() -> None:
    thread = Thread()
    detector = BlockingDetector(waits=thread)
    do(detector, 1, 2 * SLOW, thread)
    for _ in range(EXAMINED):
        do(detector, 2, SLOW / 2, thread)
    do(detector, 3, 2 * SLOW, thread)
    assert detector.at_once(3.1)


def test_a_large_copy_may_take_longer() -> None:
    """Even the slowest memory does 64 KiB in a millisecond: nobody looks whether the second one waits."""
    thread = Thread()
    detector = BlockingDetector(waits=thread)
    for start in (1.0, 2.0):
        detector.begin(start)
        thread.waits += 1
        detector.end(start + 1e-3, 65536)
    assert detector.at_once(2.1)


def test_what_is_under_way_can_be_seen() -> None:
    detector = BlockingDetector(waits=Thread())
    assert detector.busy_since is None
    detector.begin(5.0)
    assert detector.busy_since == 5.0
    detector.end(6.0, 0)
    assert detector.busy_since is None


def test_a_storage_that_holds_the_thread_up_is_left_to_others_until_it_has_answered() -> None:
    detector = BlockingDetector(waits=Thread())
    detector.begin(5.0)
    detector.held_up(7.0)
    assert detector.busy_since is None
    assert not detector.at_once(7.1 + CAUTION)
    detector.end(10.0, 512)
    assert not detector.at_once(10.0 + CAUTION / 2)
    assert detector.at_once(10.1 + CAUTION)


def test_one_that_answers_at_the_same_moment_is_not_left_to_others_for_ever() -> None:
    detector = BlockingDetector(waits=Thread())
    do(detector, 5.0, 1.5)
    detector.held_up(6.5)
    assert detector.at_once(6.5 + MOST_CAUTION)


def test_a_wait_is_counted() -> None:
    """On a busy machine a sleep may be over before the thread comes to it: then it has not waited."""
    before = switches()
    until(lambda: switches() > before)


def test_work_is_not_counted() -> None:
    """Mostly: threads of the test runner's may take the interpreter's lock at any moment."""

    def during_work() -> int:
        before = switches()
        sum(range(100))
        return switches() - before

    assert min(during_work() for _ in range(1000)) == 0
