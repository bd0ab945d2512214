"""Finds a volume's headers and opens a key slot; yields the operations on the storage below."""

from __future__ import annotations

import errno
from collections.abc import Generator
from dataclasses import dataclass, field

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError, DeviceError
from tcmu_runner.filters.luks import header1, header2, keyslots, metadata
from tcmu_runner.filters.luks.header2 import BINARY, PRIMARY, SECONDARY, SIZES, Header2
from tcmu_runner.filters.luks.key import KeySource
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import HeaderError, Volume, require
from tcmu_runner.scsi.operations import Operation, Read

PIECE = 1 << 20  # bytes read or written at once
REENCRYPTED = b"LUKS\xde\xad"  # magic of a LUKS1 header while cryptsetup reencrypts the volume


@dataclass(frozen=True, slots=True)
class Found:
    """header: the newer copy; None for LUKS1. damage: what is wrong with the other copy."""

    volume: Volume
    header: Header2 | None = None
    damage: str = ""


@dataclass(slots=True)
class _Copies:
    good: list[Header2] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fetch(offset: int, length: int) -> Generator[Operation, None, memoryview]:
    """Returns the bytes there. offset, length: multiples of 512. It reads whole blocks of
    4096 bytes."""
    start = offset // BINARY * BINARY
    into = iov.allocate(-(-(offset + length - start) // BINARY) * BINARY)
    yield Read(start, into)
    return into[0][offset - start : offset - start + length]


def find(size: int) -> Generator[Operation, None, Found | None]:
    """Returns the volume in the first `size` bytes; None without any trace of LUKS. Raises HeaderError."""
    first = bytes((yield from fetch(0, BINARY)))
    if first[:8] == PRIMARY + b"\0\1":
        return Found(header1.parse(first))
    if first.startswith(REENCRYPTED):
        raise HeaderError("is in the middle of a reencryption: finish it with cryptsetup")
    copies = yield from _copies(first, size)
    if not copies.good:
        if not copies.problems:
            return None
        raise HeaderError(
            f"has no header left ({'; '.join(copies.problems)}): restore it with cryptsetup luksHeaderRestore"
        )
    newest = max(copies.good, key=lambda header: header.sequence)
    if len({header.sequence for header in copies.good}) > 1:
        copies.problems.append("one of its headers is older than the other")
    return Found(metadata.parse(newest.json, newest.uuid), newest, "; ".join(copies.problems))


def _copies(first: bytes, size: int) -> Generator[Operation, None, _Copies]:
    """Reads both copies. If the first is damaged, it searches the second at each offset that is possible."""
    copies = _Copies()
    if first.startswith(PRIMARY):
        yield from _look_at(first, PRIMARY, 0, copies, size)
    for offset in [header.size for header in copies.good] or SIZES:
        if offset + BINARY <= size:
            block = bytes((yield from fetch(offset, BINARY)))
            if copies.good or block.startswith(SECONDARY):
                yield from _look_at(block, SECONDARY, offset, copies, size)
        if copies.good and copies.good[-1].size == offset:
            break  # this copy says its size; the further offsets are key material or data
    if not first.startswith(PRIMARY) and copies.good:
        copies.problems.append("its first header is gone")
    return copies


def _look_at(
    block: bytes, magic: bytes, offset: int, copies: _Copies, size: int
) -> Generator[Operation, None, None]:
    try:
        length = header2.size_of(block, magic, offset)
        require(offset + length <= size, "has a header that ends behind the storage")
        copies.good.append(header2.parse(bytes((yield from fetch(offset, length)))))
    except HeaderError as error:
        copies.problems.append(f"at {offset} {error}")


def unlock(volume: Volume, source: KeySource) -> Generator[Operation, None, tuple[int, Secret]]:
    """Returns the number of the key slot that this passphrase opens, and the volume key."""
    left_out = [slot.why for slot in volume.others if slot.number in volume.digest.keyslots]
    if not volume.usable:
        why = (
            f"that could be used: it {', '.join(left_out)}"
            if left_out
            else "left: its data cannot be read any more"
        )
        raise HeaderError(f"has no key slot {why}")
    with source.read() as passphrase:
        newline = passphrase.view[-1] == ord("\n")
        for slot in volume.usable:
            material = yield from fetch(slot.offset, slot.material)
            try:
                key = keyslots.unseal(slot, material, passphrase)
            except ConfigError as error:  # no memory for this one, or no library; others need less
                left_out.append(f"has a key slot {slot.number} for which {error}")
                continue
            if keyslots.matches(key, volume.digest):
                return slot.number, key
            key.wipe()
    tried = ", ".join(str(slot.number) for slot in volume.usable)
    hint = " (it ends with a newline, which is part of the key)" if newline else ""
    others = f"; the volume {', '.join(left_out)}" if left_out else ""
    raise DeviceError(
        f"{source}{hint} opens no key slot of the LUKS volume {volume.uuid}, tried {tried}: "
        f"correct the key, or add it with cryptsetup luksAddKey{others}",
        errno.EKEYREJECTED,
    )


def is_empty(start: int, end: int) -> Generator[Operation, None, bool]:
    """Returns whether all bytes from `start` to `end` are zeroes."""
    for at in range(start, end, PIECE):
        length = min(PIECE, end - at)
        if bytes((yield from fetch(at, length))) != iov.ZEROES[:length]:
            return False
    return True
