"""A process that is killed after it has flushed: what a handler keeps until close() is lost with it."""

from __future__ import annotations

import os
import random
import select
import signal
import warnings
from contextlib import suppress

from tcmu_runner.testing.conformance.bench import Bench, Setup
from tcmu_runner.testing.conformance.callers import HungError

BLOCKS = 16
DONE = b"\0"


class Victim:
    """Forked before the first handler is opened: of threads, such as libraries start, a fork has none.

    offset, content: what it writes.
    """

    def __init__(self, setup: Setup) -> None:
        self.offset = setup.size // setup.block_size // 4 * setup.block_size
        self.content = random.Random(1).randbytes(BLOCKS * setup.block_size)
        self._setup = setup
        from_us, self._go = os.pipe()
        self._told, to_us = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of other threads; see above
            self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go)
            self._live(from_us, to_us)
        os.close(from_us)
        os.close(to_us)

    def _live(self, go: int, told: int) -> None:
        """Never returns: it waits to be killed."""
        try:
            if not os.read(go, 1):  # nobody wants it
                os._exit(0)
            text = self._write_and_flush()
            os.write(told, text.encode(errors="replace")[: select.PIPE_BUF - 1] + DONE)
            os.read(go, 1)
        finally:
            os._exit(1)

    def _write_and_flush(self) -> str:
        """What went wrong."""
        try:
            bench = Bench(self._setup)
            bench.open()
            bench.write(self.offset, self.content)
            bench.perform("flush", lambda handler: handler.flush())
        except BaseException as error:
            return f"{error}" or repr(error)
        return ""

    def write_flush_and_die(self) -> str:
        """What went wrong, empty for nothing. Raises HungError."""
        os.write(self._go, b"x")
        ready, _, _ = select.select([self._told], [], [], self._setup.patience)
        text = os.read(self._told, select.PIPE_BUF) if ready else b""
        self.end()
        if not ready:
            raise HungError
        return text.rstrip(DONE).decode() if text.endswith(DONE) else "its process has ended by itself"

    def end(self) -> None:
        """Once more does nothing."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._go)
            os.close(self._told)
            self._pid = 0
