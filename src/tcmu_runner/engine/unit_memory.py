"""Keeps the state that initiators rely on (WCE, SWP, ...) for the next process that serves the LUN.

Its record is whole after a kill of the process that writes it, or a power loss: two slots are written in
turns. Each has a head with a checksum and a number that tells which slot is newer.
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
# magic with version, CRC-32 of the rest, number of the write, length of the text
_HEAD = struct.Struct("<4sIQI")
_MAGIC = b"TRS1"
_CRC_FROM = 8


class Record:
    """A small JSON record in a file. Owns `descriptor`. Several processes may have the file open; one at a
    time writes. Not thread-safe. lasting: `store` returns when the record is on stable storage."""

    def __init__(self, descriptor: int, *, lasting: bool = False) -> None:
        self._descriptor = descriptor
        self._lasting = lasting
        self._number = 0
        self._text = b""

    def load(self) -> dict[str, object] | None:
        """The record that was stored last; None without a readable one. Raises OSError."""
        found = [slot for number in (0, 1) if (slot := self._slot(number)) is not None]
        if not found:
            return None
        self._number, self._text = max(found)
        try:
            values = json.loads(self._text)
        except (ValueError, RecursionError):  # the checksum is right, but `store` did not write it
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
        """Writes if the values differ from the last ones. Raises OSError; ValueError if they exceed a
        slot."""
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
        """Whether no record was loaded or stored."""
        return not self._text

    def close(self) -> None:
        os.close(self._descriptor)


class UnitMemory:
    """Owns two records. current: the whole state, until the machine restarts or the LUN is removed. lasting:
    the keys of `unit_state.LASTING`, beyond that."""

    def __init__(self, current: Record, lasting: Record) -> None:
        self._lasts = True
        self._current = current
        self._lasting = lasting
        self._lock = threading.Lock()
        self._complained = False

    def attach(self, unit: Unit, nexus: Nexus, device: Device, *, volatile: bool) -> None:
        """Call before the unit's first command: restores the state, and stores each later change. nexus: the
        unit's only one. volatile: the storage forgets, so nothing lasts either. Raises OSError."""
        self._lasts = not volatile
        known = ((self._lasting.load() if self._lasts else None) or {}) | (self._current.load() or {})
        try:
            unit_state.put_back(unit, nexus, known)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            text = "state of another version is not understood: %s: queued DEVICE INTERNAL RESET"
            device.log.warning(text, error)
            safest = {"write_through": known.get("write_through")}
            unit_state.put_back(unit, nexus, unit_state.FORGOTTEN | safest)
        if (before := known.get("size", unit.size)) != unit.size:
            text = "size changed from %s to %d bytes without notice: queued CAPACITY DATA HAS CHANGED"
            device.log.warning(text, before, unit.size)
        unit.remember = lambda: self._save(unit, nexus, device)
        unit.remember()

    def _save(self, unit: Unit, nexus: Nexus, device: Device) -> None:
        """Stores the state. Any thread. Only logs a failure: this process still has the state."""
        with self._lock:
            try:
                state = unit_state.taken(unit, nexus)
                self._current.store(state)
                lasting = {key: state[key] for key in unit_state.LASTING if state[key]}
                if self._lasts and (lasting or not self._lasting.empty):
                    self._lasting.store(lasting)
            except (OSError, ValueError) as error:
                if not self._complained:
                    text = "cannot store state: %s: a restart resets WCE, SWP and the like"
                    device.log.error(text, error)
                self._complained = True
            else:
                self._complained = False

    def close(self) -> None:
        """Call after the unit's last command."""
        with self._lock:
            self._current.close()
            self._lasting.close()
