"""What a unit is told of itself: what its storage can do, its names, its limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the storage below a unit can do; what a unit announces follows from it.

    extents: it knows which blocks are mapped. space: how much it takes of the space below it, and what is
    left there. crypto_erase: it can throw its key away. compare_and_write, write_same: it does these as one
    operation, which the unit else makes of reads and writes. atomic: a write is stored whole or not at all,
    also where the power or the process is lost in the middle of it.
    """

    write: bool = False
    flush: bool = False
    unmap: bool = False
    unmap_reads_zero: bool = False
    write_zeroes: bool = False
    extents: bool = False
    space: bool = False
    crypto_erase: bool = False
    compare_and_write: bool = False
    write_same: bool = False
    atomic: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """What INQUIRY says of a unit; serial is the unit serial number, by convention a UUID."""

    vendor: str = "LIO-ORG"
    product: str = "TCMU device"
    revision: str = "2.00"
    serial: str = ""
    company_id: int = 0x001405
    rotational: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """VPD page B0 (SBC-4 6.6.4), in logical blocks; for max_transfer and optimal_transfer 0 means that none
    is reported.

    max_compare_and_write: 255 at most; like max_atomic it becomes max_transfer where that is less.
    physical_exponent: logical blocks in a physical one, as a power of two. write_same_to_end: WRITE SAME of
    no blocks means all up to the last one; else it is refused (WSNZ).
    soft_threshold: percent of the space below the unit; when so much is used, initiators are told (THIN
    PROVISIONING SOFT THRESHOLD REACHED); 0: never.
    """

    max_transfer: int = 0
    optimal_transfer: int = 0
    granularity: int = 1
    max_unmap: int = 0x00100000
    max_unmap_descriptors: int = 256
    unmap_granularity: int = 1
    unmap_alignment: int = 0
    max_write_same: int = 0x00080000
    max_compare_and_write: int = 255
    max_atomic: int = 256
    physical_exponent: int = 0
    write_same_to_end: bool = False
    soft_threshold: int = 0

    def __post_init__(self) -> None:
        """No command that moves its blocks may move more than any command may."""
        if self.max_transfer:
            for limit in ("max_compare_and_write", "max_atomic"):
                object.__setattr__(self, limit, min(getattr(self, limit), self.max_transfer))
