"""Keeps what initiators rely on where the next process that serves the LUN finds it."""

from __future__ import annotations

import threading

from tcmu_runner.engine.record import Record
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi import unit_state
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.unit import Unit


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
