"""What the kernel says while something is done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class KernelLog:
    """The messages since it was made; /dev/kmsg gives one message for each read()."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = ""

    def text(self) -> str:
        with suppress(BlockingIOError):  # that was the last one so far
            while True:
                self._text += os.read(self._fd, 8192).decode(errors="replace")
        return self._text


@contextmanager
def kernel_log() -> Iterator[KernelLog]:
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(fd, 0, os.SEEK_END)
    try:
        yield KernelLog(fd)
    finally:
        os.close(fd)
