"""A unit's state that initiators rely on, as plain values: taken from one unit, given to its successor.

docs/reference/unit-state.md says how long each value is kept, and why.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from tcmu_runner.scsi.medium import MediumJob
from tcmu_runner.scsi.sense import (
    CAPACITY_CHANGED,
    DEVICE_INTERNAL_RESET,
    FORMAT_FAILED,
    FORMAT_IN_PROGRESS,
    INQUIRY_DATA_CHANGED,
    SANITIZE_FAILED,
    SANITIZE_IN_PROGRESS,
    Sense,
)

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Nexus
    from tcmu_runner.scsi.unit import Unit

State = dict[str, object]

FORGOTTEN: State = {"scratch": True}  # for a unit that was served before, without a record of its state
MOST_ATTENTIONS = 32  # that are kept; what comes on top of them is announced as an internal reset
# Kept also across a power loss: without these values data would be lost, or not erased.
LASTING = ("write_through", "erasing")


def taken(unit: Unit, nexus: Nexus) -> State:
    """All that is kept. nexus: the only one, as behind LIO. Any thread."""
    attentions = tuple(nexus.attentions)
    return {
        "write_cache": unit.mode.write_cache,  # for readers of the record; `put_back` uses write_through
        "write_through": unit.capabilities.flush and not unit.mode.write_cache,
        "descriptor_sense": unit.mode.descriptor_sense,
        "write_protected": unit.mode.software_write_protect,
        "stopped": unit.medium.stopped,
        "ejected": unit.medium.ejected,
        "prevented": nexus in unit.medium.prevented_by,
        "erasing": _erasing(unit),
        "attentions": [_of_sense(sense) for sense in attentions[:MOST_ATTENTIONS]],
        "size": unit.size,
        "offers": _offers(unit),
        "self_tests": [result.hex() for result in tuple(unit.self_tests)],
        "short_of_space": unit.short_of_space,
        "scratch": bool(unit.buffer or unit.copies or nexus.echo is not None)
        or len(attentions) > MOST_ATTENTIONS,
    }


def put_back(unit: Unit, nexus: Nexus, state: Mapping[str, object]) -> None:
    """Gives a new unit the state of `taken`; queues unit attentions for what cannot be restored. Missing
    values have their defaults. Call before the unit's first command."""
    nexus.attentions.extend(map(_to_sense, cast("list[State]", state.get("attentions", []))))
    if state.get("scratch"):
        nexus.queue_unit_attention(DEVICE_INTERNAL_RESET)
    if state.get("size", unit.size) != unit.size:
        nexus.queue_unit_attention(CAPACITY_CHANGED)
    if state.get("offers", _offers(unit)) != _offers(unit):
        nexus.queue_unit_attention(INQUIRY_DATA_CHANGED)
    unit.mode.write_cache = unit.mode.write_cache and not state.get("write_through")
    unit.mode.descriptor_sense = bool(state.get("descriptor_sense"))
    unit.mode.software_write_protect = bool(state.get("write_protected"))
    unit.short_of_space = bool(state.get("short_of_space"))
    unit.self_tests.extend(map(bytes.fromhex, cast("list[str]", state.get("self_tests", []))))
    if state.get("prevented"):
        unit.medium.prevent(nexus)
    unit.medium.load(inserted=not state.get("ejected"))
    if state.get("stopped"):
        unit.medium.power(on=False)
    if (erasing := cast("State | None", state.get("erasing"))) is not None:
        unit.medium.end(_failed(erasing))


def _offers(unit: Unit) -> int:
    """A number that changes with what the unit announces (VPD pages B0h to B2h, opcodes, WP)."""
    return zlib.crc32(f"{unit.limits} {unit.capabilities}".encode())


def _erasing(unit: Unit) -> State | None:
    """A FORMAT UNIT or SANITIZE that has not succeeded: under way, or failed."""
    job = unit.medium.job or unit.medium.failed
    if job is None:
        return None
    return {"sanitize": job.failure == SANITIZE_FAILED, "allows_exit": job.allows_exit}


def _failed(erasing: State) -> MediumJob:
    """An interrupted job counts as failed: the successor does not know how far it came."""
    sanitize = erasing["sanitize"]
    return MediumJob(
        SANITIZE_IN_PROGRESS if sanitize else FORMAT_IN_PROGRESS,
        SANITIZE_FAILED if sanitize else FORMAT_FAILED,
        total=0,
        allows_exit=bool(erasing["allows_exit"]),
    )


def _of_sense(sense: Sense) -> State:
    return asdict(sense) | {"specific": sense.specific.hex() if sense.specific is not None else None}


def _to_sense(values: State) -> Sense:
    specific = cast("str | None", values["specific"])
    known = Sense(**values)  # type: ignore[arg-type]
    return Sense(
        known.key,
        known.asc,
        known.ascq,
        known.information,
        bytes.fromhex(specific) if specific is not None else None,
        known.deferred,
    )
