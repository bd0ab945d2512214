"""Initiators that write all the time, and know of every slot of the LUN which contents it may have."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from harness.lun import Lun
from harness.served import Served

SLOT = 4096
WRITERS = 4
CUT_OFF = (EOFError, ConnectionError)


@dataclass(slots=True)
class Slot:
    """newest: the last value that was acknowledged. last: the last one that was sent, answered or not."""

    newest: int = 0
    last: int = 0


def content(slot: int, value: int) -> bytes:
    """Of each slot and value another one; value 0: zeroes. Half of it compresses well."""
    if not value:
        return bytes(SLOT)
    return (struct.pack(">QQ", slot, value) * 16 + Random(slot << 32 | value).randbytes(256)) * (SLOT // 512)


class Writers:
    """`start` them; `finish` them, and they stop after the command that they are at; or the target goes away
    below them. Then look at `failures`, and `check` the slots."""

    def __init__(self, served: Served, seed: int) -> None:
        self._served = served
        self._seed = seed
        self.slots = [Slot() for _ in range(served.case.size // SLOT)]
        self.failures: list[BaseException] = []
        self.cut_off = 0  # how many initiators lost their target
        self.written = 0
        self.busy = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._stop.clear()
        self._seed += WRITERS
        self._threads = [
            threading.Thread(target=self._run, args=(number, self._served.connect()), daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, number: int, lun: Lun) -> None:
        random = Random(self._seed + number)
        mine = range(number, len(self.slots), WRITERS)
        try:
            while not self._stop.is_set():
                self._step(lun, random, random.choice(mine))
        except CUT_OFF:
            self.cut_off += 1
        except BaseException as error:
            self.failures.append(error)
        finally:
            self.busy += lun.busy
            lun.close()

    def _step(self, lun: Lun, random: Random, number: int) -> None:
        chance, slot = random.random(), self.slots[number]
        if chance < 0.05:
            lun.flush()
        elif chance < 0.2:
            assert lun.read(number * SLOT, SLOT) == content(number, slot.newest), f"slot {number} is wrong"
        else:
            slot.last += 1
            lun.write(number * SLOT, content(number, slot.last), fua=chance > 0.95)
            slot.newest = slot.last
            self.written += 1

    def check_live(self, lun: Lun) -> None:
        """Nothing that it took is forgotten, flushed or not."""
        self._check(lun, lambda slot: [slot.newest])

    def check_after_crash(self, lun: Lun) -> None:
        """The same, for nobody tells an initiator that a worker process has died: only writes that were not
        answered may be there, or not, by the block. Those are settled by another write."""
        self._check(lun, lambda slot: [slot.newest, slot.last])
        for number, slot in enumerate(self.slots):
            if slot.last != slot.newest:
                slot.newest = slot.last = slot.last + 1
                lun.write(number * SLOT, content(number, slot.newest))
        lun.flush()

    def _check(self, lun: Lun, allowed: Callable[[Slot], list[int]]) -> None:
        block = lun.block_size
        for offset, data in lun.read_all():
            for at in range(0, len(data), SLOT):
                number = (offset + at) // SLOT
                values = allowed(self.slots[number])
                if data[at : at + SLOT] == content(number, values[-1]):
                    continue
                for start in range(0, SLOT, block):
                    found = data[at + start : at + start + block]
                    good = any(found == content(number, value)[start : start + block] for value in values)
                    assert good, f"slot {number}, byte {start}: {found[:16].hex()} is none of {values}"
