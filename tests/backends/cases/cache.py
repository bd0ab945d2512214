"""`cache`, writing back and through, over a file; smaller than the LUN, and in memory."""

from pathlib import Path

from harness import NO_SERVER, Backend, Case, stack


class CacheBackend(Backend):
    mode = "write-back"

    @property
    def settings(self) -> str:
        fast = Path(f"{self.directory}.fast")
        fast.mkdir(exist_ok=True)
        layer = f'{{ filter = "cache", directory = "{fast}", size = "2M", mode = "{self.mode}" }}'
        return stack("cached", "file", layer)

    @property
    def config(self) -> str:
        return f"cached/{self.directory}/disk.img"


class ThroughBackend(CacheBackend):
    mode = "write-through"


FULL = {"backend_full": "what the storage below cannot take stays in the cache: flushes fail, no write does"}
CASES = [
    Case("cache-back", CacheBackend, without={**NO_SERVER, **FULL}),
    Case("cache-through", ThroughBackend, without=NO_SERVER),
]
