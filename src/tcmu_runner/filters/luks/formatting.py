"""Makes a volume, renews its key, and wipes the key slots that hold the old one."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from uuid import uuid4

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.luks import keyslots, metadata
from tcmu_runner.filters.luks.header2 import SIZES, Header2
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.unlock import PIECE, Found
from tcmu_runner.filters.luks.volume import AREA_ALIGNMENT, Derivation, Volume
from tcmu_runner.scsi.operations import Flush, Operation, Steps, Write

KEY_SIZE = 64  # bytes: AES with 256 bits, and as much for the tweak
AREA_SIZE = -(-KEY_SIZE * keyslots.STRIPES // AREA_ALIGNMENT) * AREA_ALIGNMENT
LEAST = 2 * SIZES[0] + AREA_SIZE


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess of a passphrase costs. kind: of key derivation. time: iterations. memory: KiB. The
    defaults are the second recommendation of RFC 9106."""

    kind: str = "argon2id"
    time: int = 3
    memory: int = 64 << 10
    lanes: int = 4

    def derivation(self) -> Derivation:
        return Derivation(self.kind, os.urandom(32), self.time, self.memory, self.lanes)


def create(
    passphrase: Secret, key: Secret, cost: Cost, data_offset: int, sector_size: int
) -> Generator[Operation, None, Found]:
    """Makes a new volume with one write, so that a crash leaves no header without its key slot."""
    if data_offset < LEAST or data_offset % AREA_ALIGNMENT:
        raise ConfigError(
            f"a LUKS header needs {LEAST} bytes or more, in whole 4096: correct the option header"
        )
    slot, material = keyslots.seal(key, passphrase, cost.derivation(), 2 * SIZES[0])
    volume = Volume(2, str(uuid4()), data_offset, sector_size, keyslots.digest_of(key), (slot,))
    header = Header2(SIZES[0], 1, volume.uuid, metadata.compose(volume, SIZES[0]))
    yield Write(0, [memoryview(bytearray(header.copies() + material))], fua=True)
    return Found(volume, header)


def renew(
    found: Found, header: Header2, passphrase: Secret, key: Secret, cost: Cost
) -> Generator[Operation, None, Found]:
    """Gives the volume another key, in its only key slot. The key material goes to an unused place and is
    flushed before the header names it: after a power loss the old or the new key is in force. Raises OSError
    before it writes."""
    volume = found.volume
    offset = keyslots.gap(volume, 2 * header.size, AREA_SIZE)
    slot, material = keyslots.seal(key, passphrase, cost.derivation(), offset)
    renewed = replace(volume, digest=keyslots.digest_of(key), keyslots=(slot,), others=())
    after = header.next(metadata.compose(renewed, header.size, header.json))
    copies = after.copies()
    yield Write(offset, [memoryview(bytearray(material))])
    yield Flush()
    yield Write(0, [memoryview(bytearray(copies))], fua=True)
    return Found(renewed, after)


def wipe(volume: Volume) -> Steps:
    """Overwrites the key material of all key slots."""
    for slot in volume.areas:
        for at in range(slot.offset, slot.offset + slot.size, PIECE):
            length = min(PIECE, slot.offset + slot.size - at)
            yield Write(at, [memoryview(bytearray(os.urandom(length)))])
    yield Flush()
