"""Keeps what initiators rely on where the next process that serves the LUN finds it.

A record of it is whole after a kill of the process that writes it, or a loss of power: two slots take turns.
Each begins with a head that tells whether the rest of it is whole, and which is newer.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from collections.abc import Mapping

from tcmu_runner.handler.device import Device
from tcmu_runner.scsi import unit_state
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.unit import Unit

SLOT = 8192  # bytes
FILE_SIZE = 2 * SLOT
# magic with version, CRC-32 of what follows it, how often was written, length of the text
_HEAD = struct.Struct("<4sIQI")
_MAGIC = b"TRS1"
_CRC_FROM = 8


class Record:
    """A small JSON record in a file. Owns `descriptor`, which may be opened by several processes, of which
    one at a time writes. Not thread-safe. lasting: what was stored outlasts a loss of power when `store`
    returns."""

    def __init__(self, descriptor: int, *, lasting: bool = False) -> None:
        self._descriptor = descriptor
        self._lasting = lasting
        self._number = 0
        self._text = b""

    def load(self) -> dict[str, object] | None:
        """What was stored last; None where nothing was, or nothing that can be read. Raises OSError."""
        found = [slot for number in (0, 1) if (slot := self._slot(number)) is not None]
        if not found:
            return None
        self._number, self._text = max(found)
        try:
            values = json.loads(self._text)
        except (ValueError, RecursionError):  # whole, but not by `store`
            return None
        return values if isinstance(values, dict) else None

    def _slot(self, number: int) -> tuple[int, bytes] | None:
        data = os.pread(self._descriptor, SLOT, number * SLOT)
        if len(data) < _HEAD.size:
            return None
        magic, crc, written, length = _HEAD.unpack_from(data)
        whole = data[: _HEAD.size + length]
        if magic != _MAGIC or len(whole) != _HEAD.size + length or zlib.crc32(whole[_CRC_FROM:]) != crc:
            return None
        return written, whole[_HEAD.size :]

    def store(self, values: Mapping[str, object]) -> None:
        """Only where it differs from what is there. Raises OSError; ValueError for more than a slot takes."""
        text = json.dumps(values, separators=(",", ":")).encode()
        if text == self._text:
            return
        if len(text) > SLOT - _HEAD.size:
            raise ValueError(f"{len(text)} bytes are too long for a record")
        number = self._number + 1
        rest = _HEAD.pack(_MAGIC, 0, number, len(text))[_CRC_FROM:] + text
        head = _MAGIC + struct.pack("<I", zlib.crc32(rest))
        os.pwrite(self._descriptor, head + rest, number % 2 * SLOT)
        if self._lasting:
            os.fdatasync(self._descriptor)
        self._number, self._text = number, text

    @property
    def empty(self) -> bool:
        """Whether nothing was loaded or stored."""
        return not self._text

    def close(self) -> None:
        os.close(self._descriptor)


class UnitMemory:
    """Owns two records. current: all facts, for as long as the machine runs and the LUN exists. lasting:
    those of `unit_state.LASTING`, beyond that."""

    def __init__(self, current: Record, lasting: Record) -> None:
        self._lasts = True
        self._current = current
        self._lasting = lasting
        self._lock = threading.Lock()
        self._complained = False

    def attach(self, unit: Unit, nexus: Nexus, device: Device, *, volatile: bool) -> None:
        """Before the unit's first command: puts back what is known, and follows the unit from now on. nexus:
        its only one. volatile: its storage is, so nothing of it lasts. Raises OSError."""
        self._lasts = not volatile
        known = ((self._lasting.load() if self._lasts else None) or {}) | (self._current.load() or {})
        try:
            unit_state.put_back(unit, nexus, known)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            text = "state that another version kept is not understood: %s: DEVICE INTERNAL RESET is queued"
            device.log.warning(text, error)
            safest = {"write_through": known.get("write_through")}
            unit_state.put_back(unit, nexus, unit_state.FORGOTTEN | safest)
        if (before := known.get("size", unit.size)) != unit.size:
            text = "size changed from %s to %d bytes behind initiators: CAPACITY DATA HAS CHANGED is queued"
            device.log.warning(text, before, unit.size)
        unit.remember = lambda: self._save(unit, nexus, device)
        unit.remember()

    def _save(self, unit: Unit, nexus: Nexus, device: Device) -> None:
        """Any thread. A failure is for the log: this process still knows everything."""
        with self._lock:
            try:
                state = unit_state.taken(unit, nexus)
                self._current.store(state)
                lasting = {key: state[key] for key in unit_state.LASTING if state[key]}
                if self._lasts and (lasting or not self._lasting.empty):
                    self._lasting.store(lasting)
            except (OSError, ValueError) as error:
                if not self._complained:
                    text = "state cannot be kept: %s; a restart makes WCE, SWP and the like default again"
                    device.log.error(text, error)
                self._complained = True
            else:
                self._complained = False

    def close(self) -> None:
        """After the unit's last command."""
        with self._lock:
            self._current.close()
            self._lasting.close()
