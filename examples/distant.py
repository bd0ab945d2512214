"""A disk that is far away, with asyncio: it answers after a delay, as many commands at once as there are.

tcmu-runner try examples/distant.py '20;jitter=5' --size 64M --run 'iscsi-perf $uri'
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from tcmu_runner import AsyncHandler, Buffers, ConfigError, Device, parse_options


@dataclass(frozen=True)
class Options:
    """What follows `distant/` in a config string: MILLISECONDS;jitter=N."""

    delay: str
    jitter: int = 0


class Distant(AsyncHandler[Options]):
    """distant/MILLISECONDS[;jitter=MILLISECONDS]
    A disk in memory whose answers take so long, and up to the jitter longer. For example distant/20;jitter=5
    """

    subtype = "distant"

    def __init__(self, size: int, options: Options) -> None:
        self.disk = bytearray(size)
        self.delay = int(options.delay) / 1000
        self.jitter = options.jitter / 1000

    @classmethod
    def parse(cls, config: str) -> Options:
        options = parse_options(Options, config, first="delay")
        if not (options.delay.isascii() and options.delay.isdigit()):
            raise ConfigError(f"{options.delay!r} is no number of milliseconds: write distant/20")
        return options

    @classmethod
    async def open(cls, device: Device, config: Options) -> Distant:
        return cls(device.size, config)

    async def travel(self) -> None:
        await asyncio.sleep(self.delay + random.uniform(0, self.jitter))

    async def read(self, into: Buffers, offset: int) -> None:
        await self.travel()
        for buffer in into:
            buffer[:] = self.disk[offset : offset + len(buffer)]
            offset += len(buffer)

    async def write(self, data: Buffers, offset: int) -> None:
        await self.travel()
        for buffer in data:
            self.disk[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    async def unmap(self, offset: int, length: int) -> None:
        await self.travel()
        self.disk[offset : offset + length] = bytes(length)
