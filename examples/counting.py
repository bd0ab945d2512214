"""A disk with a SCSI command of its own: how often has it been read and written?

tcmu-runner try examples/counting.py --size 64M --run 'iscsi-inq $uri'

and where it is a disk of this machine: sg_raw --request=16 /dev/sdX c1 00 00 00 00 00 00 00 10 00

A RawHandler sees every command before the built-in disk does. It answers those it knows, and leaves the rest.
"""

from __future__ import annotations

from tcmu_runner import NOT_HANDLED, Buffers, Command, Device, NotHandled, RawHandler, Status

READ_COUNTERS = 0xC1  # a vendor specific operation code; bytes 7 and 8 of its CDB: the allocation length


class Counting(RawHandler[str]):
    """counting/
    A disk in memory that counts its reads and writes. The command C1h tells both numbers, in 8 bytes each.
    """

    subtype = "counting"
    threads = 0

    def __init__(self, size: int) -> None:
        self.disk = memoryview(bytearray(size))
        self.reads = 0
        self.writes = 0

    @classmethod
    def open(cls, device: Device, config: str) -> Counting:
        return cls(device.size)

    def command(self, command: Command) -> Status | NotHandled:
        if command.cdb[0] != READ_COUNTERS:
            return NOT_HANDLED
        counters = self.reads.to_bytes(8, "big") + self.writes.to_bytes(8, "big")
        command.reply(counters, allocation_length=command.field(7, 2))
        return Status.GOOD

    def read(self, into: Buffers, offset: int) -> None:
        self.reads += 1
        for buffer in into:
            buffer[:] = self.disk[offset : offset + len(buffer)]
            offset += len(buffer)

    def write(self, data: Buffers, offset: int) -> None:
        self.writes += 1
        for buffer in data:
            self.disk[offset : offset + len(buffer)] = buffer
            offset += len(buffer)
