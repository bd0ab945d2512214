"""When a device whose server ends again and again is served again."""

import asyncio

from tcmu_runner.kernel.uio import DeviceName, UioEntry
from tcmu_runner.supervisor.backoff import AT_ONCE, CALM_SECONDS, LONGEST_DELAY, RestartBackoff

from .unserved import unserved


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def after(*served: float) -> list[float]:
    """The delays of a device that was served for so many seconds each time before it needed help."""
    loop, delays = Clock(), []

    async def life() -> None:
        device = unserved(UioEntry(0, DeviceName(0, "vol0", "ram/")))
        backoff = RestartBackoff()
        for seconds in served:
            backoff.served(device)
            loop.now += seconds
            count, delay = backoff.trouble(device)
            assert count >= 1
            delays.append(delay)

    loop.run_until_complete(life())
    loop.close()
    return delays


def test_a_device_that_was_of_use_is_served_at_once() -> None:
    assert after(*[CALM_SECONDS + 0.1] * 100) == [0.0] * 100


def test_a_loop_of_deaths_slows_down_to_a_limit() -> None:
    delays = after(*[0.1] * 20)
    assert delays[:AT_ONCE] == [0.0] * AT_ONCE
    assert delays[AT_ONCE : AT_ONCE + 4] == [0.25, 0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY


def test_one_calm_time_ends_the_record() -> None:
    assert after(*[0.1] * (AT_ONCE + 2), CALM_SECONDS + 0.1)[-1] == 0.0
