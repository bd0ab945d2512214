"""EXTENDED COPY: descriptors, limits, results, and the way to other LUNs (SPC-5 5.16, LID1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tcmu_runner.scsi.command import Nexus
    from tcmu_runner.scsi.unit import Unit

MAX_CSCD_DESCRIPTORS, MAX_SEGMENT_DESCRIPTORS = 16, 16
MAX_SEGMENT_LENGTH = 1 << 28  # bytes; the largest that 16 bits of blocks can say
BLOCK_TO_BLOCK, WITH_OFFSETS, IDENTIFICATION_DESCRIPTOR = 0x02, 0x0A, 0xE4
CSCD_SIZES = {IDENTIFICATION_DESCRIPTOR: 32}  # bytes of a descriptor
SEGMENT_SIZES = {BLOCK_TO_BLOCK: 28, WITH_OFFSETS: 32}
DESCRIPTORS = bytes((*SEGMENT_SIZES, *CSCD_SIZES))
MAX_DESCRIPTORS_LENGTH = (MAX_CSCD_DESCRIPTORS + MAX_SEGMENT_DESCRIPTORS) * 32
IN_PROGRESS, COMPLETED, FAILED = 0x00, 0x01, 0x02  # COPY STATUS (SPC-5 table 314)
HELD_LISTS = 16  # finished copies of a nexus that RECEIVE COPY RESULTS can still report


class Designator(NamedTuple):
    """A name of a logical unit as VPD page 83h gives it (SPC-5 7.7.6.1)."""

    code_set: int
    kind: int
    value: bytes


class Peer(NamedTuple):
    """Another LUN, and the nexus by which the same initiator may access it."""

    unit: Unit
    nexus: Nexus


# Finds the LUN of that name that the initiator of this nexus may access; None without one. It must return
# None for a LUN that the initiator cannot access directly: else EXTENDED COPY would bypass access control
# (CVE-2020-28374).
Peers = Callable[["Nexus", Designator], Peer | None]


class CopyResults(NamedTuple):
    """The values for COPY STATUS. segments: how many are done. transferred: bytes."""

    status: int
    segments: int
    transferred: int
