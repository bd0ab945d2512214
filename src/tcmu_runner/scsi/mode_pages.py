"""Mode pages of a disk: current, changeable and default values (SPC-5 7.5, SBC-4 6.5)."""

from dataclasses import dataclass
from typing import Self

from tcmu_runner.scsi.profile import Capabilities

PageCode = tuple[int, int]

RECOVERY, CACHING, CONTROL, CONTROL_EXTENSION, EXCEPTIONS = (1, 0), (8, 0), (0x0A, 0), (0x0A, 1), (0x1C, 0)


def _page(code: PageCode, size: int) -> bytearray:
    """An empty page of `size` bytes, header included (SPC-5 7.5.7)."""
    number, subpage = code
    page = bytearray(size)
    if subpage:
        page[:4] = bytes((0x40 | number, subpage)) + (size - 4).to_bytes(2, "big")
    else:
        page[:2] = bytes((number, size - 2))
    return page


@dataclass(slots=True)
class ModeState:
    """The values that an initiator can change with MODE SELECT; all others are fixed.

    write_cache (WCE): a write may end before it is on stable storage. descriptor_sense (D_SENSE): sense comes
    in descriptor format. software_write_protect (SWP): writes are refused.
    """

    write_cache: bool
    descriptor_sense: bool = False
    software_write_protect: bool = False

    @classmethod
    def default(cls, capabilities: Capabilities) -> Self:
        """The values after a reset: nothing is saved."""
        return cls(write_cache=capabilities.flush)

    def page(self, code: PageCode) -> bytes:
        """The page with the current values."""
        return bytes(_BUILDERS[code](self))

    def apply(self, code: PageCode, page: bytes) -> None:
        """Applies the changeable bits of a page; the caller has checked the others."""
        if code == CACHING:
            self.write_cache = bool(page[2] & 0x04)
        if code == CONTROL:
            self.descriptor_sense = bool(page[2] & 0x04)
            self.software_write_protect = bool(page[4] & 0x08)


def _recovery(_state: ModeState) -> bytearray:
    page = _page(RECOVERY, 12)
    page[2] = 0x80  # AWRE: the storage reassigns bad blocks by itself
    return page


def _caching(state: ModeState) -> bytearray:
    page = _page(CACHING, 20)
    page[2] = 0x04 if state.write_cache else 0
    return page


def _control(state: ModeState) -> bytearray:
    page = _page(CONTROL, 12)
    page[2] = 0x04 if state.descriptor_sense else 0
    page[3] = 0x10  # QUEUE ALGORITHM MODIFIER 1: unrestricted reordering
    page[4] = 0x08 if state.software_write_protect else 0
    page[5] = 0x40  # TAS: a command aborted by another nexus ends in TASK ABORTED, as LIO does
    page[8:10] = b"\xff\xff"  # BUSY TIMEOUT PERIOD: no limit
    return page


def _control_extension(_state: ModeState) -> bytearray:
    return _page(CONTROL_EXTENSION, 32)


def _exceptions(_state: ModeState) -> bytearray:
    page = _page(EXCEPTIONS, 12)
    page[2] = 0x08  # DEXCPT: no informational exceptions are reported
    return page


_BUILDERS = {
    RECOVERY: _recovery,
    CACHING: _caching,
    CONTROL: _control,
    CONTROL_EXTENSION: _control_extension,
    EXCEPTIONS: _exceptions,
}

PAGES = tuple(_BUILDERS)


def changeable(code: PageCode, *, has_cache: bool) -> bytes:
    """The page with a 1 in every bit that MODE SELECT may change (SPC-5 6.14 PC 01b)."""
    page = _page(code, len(_BUILDERS[code](ModeState(write_cache=False))))
    if code == CACHING and has_cache:
        page[2] = 0x04
    if code == CONTROL:
        page[2], page[4] = 0x04, 0x08
    return bytes(page)
