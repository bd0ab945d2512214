"""A unit's description: capabilities of its storage, names, limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the storage below a unit can do; the unit announces features by it.

    extents: it knows which blocks are mapped. space: it knows how much space it takes and how much is free.
    crypto_erase: it can destroy its key. compare_and_write, write_same: it does these as one operation; else
    the unit composes them of reads and writes. atomic: a write is stored whole or not at all, also when power
    or process are lost in the middle of it.
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
    """The unit's names in INQUIRY. serial: the unit serial number, by convention a UUID."""

    vendor: str = "LIO-ORG"
    product: str = "TCMU device"
    revision: str = "2.00"
    serial: str = ""
    company_id: int = 0x001405
    rotational: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """VPD page B0h (SBC-4 6.6.4), in logical blocks. max_transfer, optimal_transfer: 0: none is reported.

    max_compare_and_write: 255 at most; it and max_atomic are further limited by max_transfer.
    physical_exponent: logical blocks in a physical one, as a power of two. write_same_to_end: WRITE SAME of
    no blocks means all up to the last one; else it is refused (WSNZ). soft_threshold: percent of the space
    below the unit; when so much is used, initiators get the unit attention THIN PROVISIONING SOFT THRESHOLD
    REACHED; 0: never.
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
        """Limits COMPARE AND WRITE and WRITE ATOMIC, which move their blocks, to max_transfer."""
        if self.max_transfer:
            for limit in ("max_compare_and_write", "max_atomic"):
                object.__setattr__(self, limit, min(getattr(self, limit), self.max_transfer))
