"""Threads for blocking calls."""

import asyncio
import threading

import pytest

from tcmu_runner.aio import in_thread


def test_one_that_hangs_takes_no_others_place() -> None:
    release = threading.Event()

    async def main() -> int:
        hanging = [in_thread(lambda: release.wait(60)) for _ in range(20)]
        free = await asyncio.wait_for(in_thread(lambda: 4711), 60)
        release.set()
        assert await asyncio.gather(*hanging) == [True] * 20
        return free

    assert asyncio.run(main()) == 4711


def test_what_it_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        await in_thread(fail)

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_nobody_need_wait_for_it_any_more() -> None:
    release = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(lambda: release.wait(60)), 0.01)
        release.set()
        await in_thread(lambda: None)

    asyncio.run(main())
