"""A disk in memory: the whole of a handler.

tcmu-runner try examples/ram.py --size 64M --run 'iscsi-inq $uri'
"""

from __future__ import annotations

from tcmu_runner import Buffers, Device, Handler


class Ram(Handler[str]):
    """myram/
    A disk in memory; its content is gone when the device is removed.
    """

    subtype = "myram"
    threads = 0  # never blocks: call me on the ring's thread

    def __init__(self, size: int) -> None:
        self.disk = memoryview(bytearray(size))

    @classmethod
    def open(cls, device: Device, config: str) -> Ram:
        return cls(device.size)

    def read(self, into: Buffers, offset: int) -> None:  # fill the buffers
        for buffer in into:
            buffer[:] = self.disk[offset : offset + len(buffer)]
            offset += len(buffer)

    def write(self, data: Buffers, offset: int) -> None:  # store the buffers
        for buffer in data:
            self.disk[offset : offset + len(buffer)] = buffer
            offset += len(buffer)
