"""Handlers that break in all the ways a handler can: on the command that reads at TRIGGER."""

import ctypes
import os
import sys
import time
from pathlib import Path

from tcmu_runner import Device, Handler

TRIGGER = 17 << 20  # where neither the kernel nor udev looks for partitions and file systems


class Broken(Handler[str]):
    """Keeps nothing; reads zeroes everywhere but at TRIGGER."""

    @classmethod
    def open(cls, device: Device, config: str) -> "Broken":
        return cls()

    def read(self, into: list[memoryview], offset: int) -> None:
        if offset == TRIGGER:
            self.break_down()
        for buffer in into:
            buffer[:] = bytes(len(buffer))

    def write(self, data: list[memoryview], offset: int) -> None:
        pass

    def break_down(self) -> None:
        raise NotImplementedError


class Segfault(Broken):
    subtype = "segfault"

    def break_down(self) -> None:
        ctypes.string_at(0)


class Leave(Broken):
    subtype = "leave"

    def break_down(self) -> None:
        os._exit(3)


class Quit(Broken):
    subtype = "quit"

    def break_down(self) -> None:
        sys.exit(3)


class Raise(Broken):
    subtype = "raise"

    def break_down(self) -> None:
        raise ZeroDivisionError("a bug")


class Loop(Broken):
    subtype = "loop"

    def break_down(self) -> None:
        while True:
            pass


class Hoard(Broken):
    """Allocates without end; the worker's memory limit is what stops it."""

    subtype = "hoard"

    def break_down(self) -> None:
        hoard = []
        while True:
            hoard.append(bytearray(1 << 24))


class StallOnce(Broken):
    """stallonce//PATH: never comes back, but only while PATH does not exist, which it makes."""

    subtype = "stallonce"

    @classmethod
    def open(cls, device: Device, config: str) -> "StallOnce":
        handler = cls()
        handler.seen = Path(config)
        return handler

    seen: Path

    def break_down(self) -> None:
        if not self.seen.exists():
            self.seen.touch()
            time.sleep(3600)


class SlowOpen(Broken):
    """slowopen//PATH: opening takes until PATH exists."""

    subtype = "slowopen"

    @classmethod
    def open(cls, device: Device, config: str) -> "SlowOpen":
        while not Path(config).exists():
            time.sleep(0.02)
        return cls()


class DeadOpen(Broken):
    subtype = "deadopen"

    @classmethod
    def open(cls, device: Device, config: str) -> "DeadOpen":
        os._exit(3)
