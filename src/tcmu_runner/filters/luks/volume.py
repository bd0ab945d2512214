"""What a LUKS header of either version says. Constructors refuse values that this filter cannot use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tcmu_runner.errors import DeviceError
from tcmu_runner.filters.luks.xts import KEY_SIZES, SECTOR

ENCRYPTION = "aes-xts-plain64"
MAX_MEMORY = 4 << 20  # KiB of argon2; cryptsetup has the same limit
AREA_ALIGNMENT = 4096


class HeaderError(DeviceError):
    """The header cannot be used. what: the rest of a sentence that begins with "the LUKS volume"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the LUKS volume {what}")
        self.what = what


def require(condition: object, what: str) -> None:
    """Raises HeaderError unless the condition holds. what: as of a HeaderError."""
    if not condition:
        raise HeaderError(what)


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a passphrase becomes the key of a key slot. kind: argon2id, argon2i or pbkdf2. time: iterations.
    memory: KiB. hash: for pbkdf2."""

    kind: str
    salt: bytes
    time: int
    memory: int = 0
    lanes: int = 1
    hash: str = "sha256"

    def __post_init__(self) -> None:
        require(
            self.kind in ("argon2id", "argon2i", "pbkdf2"), f"has the unknown key derivation {self.kind!r}"
        )
        require(0 < self.time < 1 << 32, f"derives keys with {self.time} iterations")
        if self.kind == "pbkdf2":
            check_hash(self.hash)
        else:
            enough = 8 * self.lanes <= self.memory <= MAX_MEMORY
            require(
                0 < self.lanes < 256 and enough, f"derives keys with {self.memory} KiB, {self.lanes} lanes"
            )


@dataclass(frozen=True, slots=True)
class Keyslot:
    """offset, size: of its key material. key_size: of the volume key. area_key_size: of the key that encrypts
    the key material. All in bytes. priority: 2 is tried first, 0 never."""

    number: int
    key_size: int
    offset: int
    size: int
    area_key_size: int
    stripes: int
    hash: str
    derivation: Derivation
    priority: int = 1

    def __post_init__(self) -> None:
        slot = f"has a key slot {self.number}"
        require(
            {self.key_size, self.area_key_size} <= KEY_SIZES.keys(), f"{slot} with keys of a strange size"
        )
        require(0 < self.stripes <= 1 << 16, f"{slot} with {self.stripes} stripes")
        room = self.offset >= 0 and self.material <= self.size <= 64 << 20
        require(room and not self.offset % SECTOR, f"{slot} without room for its key material")
        check_hash(self.hash)

    @property
    def material(self) -> int:
        """Bytes of the key material, in whole sectors."""
        return -(-self.key_size * self.stripes // SECTOR) * SECTOR


@dataclass(frozen=True, slots=True)
class OtherSlot:
    """A key slot that this filter cannot open, but cryptsetup may. offset, size: as of a Keyslot. why: as
    `what` of a HeaderError."""

    number: int
    offset: int
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash (PBKDF2) of the volume key. keyslots: numbers of those that hold this volume key."""

    hash: str
    iterations: int
    salt: bytes
    value: bytes
    keyslots: frozenset[int]

    def __post_init__(self) -> None:
        check_hash(self.hash)
        require(0 < self.iterations < 1 << 32 and self.value, "has an empty digest of its volume key")


@dataclass(frozen=True, slots=True)
class Volume:
    """version: of LUKS, 1 or 2. data_offset, sector_size: bytes. tweak: added to sector numbers. discards:
    cryptsetup's flag allow-discards is set. keyslots: those that can be tried. others: the rest."""

    version: int
    uuid: str
    data_offset: int
    sector_size: int
    digest: Digest
    keyslots: tuple[Keyslot, ...]
    tweak: int = 0
    discards: bool = False
    others: tuple[OtherSlot, ...] = ()

    def __post_init__(self) -> None:
        require(self.sector_size in (512, 1024, 2048, 4096), f"has sectors of {self.sector_size} bytes")
        require(
            self.data_offset, "has its header apart from its data, where this filter does not look for it"
        )
        aligned = self.data_offset > 0 and not self.data_offset % self.sector_size
        require(aligned, f"begins its data at {self.data_offset}")
        for slot in self.areas:
            end = slot.offset + slot.size
            placed = slot.offset >= 0 and slot.size >= 0
            require(placed and end <= self.data_offset, f"has a key slot {slot.number} that lies in the data")

    @property
    def areas(self) -> tuple[Keyslot | OtherSlot, ...]:
        """All key slots: each may have key material on the storage."""
        return (*self.keyslots, *self.others)

    @property
    def usable(self) -> list[Keyslot]:
        """Key slots that hold the key of the digest, in the order in which they are tried."""
        mine = [slot for slot in self.keyslots if slot.number in self.digest.keyslots and slot.priority]
        return sorted(mine, key=lambda slot: (-slot.priority, slot.number))


def check_hash(name: str) -> None:
    try:
        hashlib.pbkdf2_hmac(name, b"", b"", 1, 1)  # hashlib.new() knows hashes that pbkdf2_hmac refuses
    except ValueError:
        raise HeaderError(f"uses the hash {name!r}, which this Python has not") from None


def check_encryption(name: str) -> None:
    require(name == ENCRYPTION, f"is encrypted with {name}; this filter knows {ENCRYPTION}")
