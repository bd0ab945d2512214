"""Keeps the state that initiators rely on (WCE, SWP, ...) for the next process that serves the LUN."""

from __future__ import annotations

import threading

from tcmu_runner.engine.record import Record
from tcmu_runner.handler.device import Device
from tcmu_runner.scsi import unit_state
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.unit import Unit


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
