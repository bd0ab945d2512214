"""The filter `luks`: a LUN in a LUKS volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.luks import formatting, secret, unlock
from tcmu_runner.filters.luks.key import KeySource
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.unlock import Found
from tcmu_runner.filters.luks.xts import SECTOR, Xts, xts
from tcmu_runner.filters.options import parse_table
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import Filter
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.operations import (
    CryptoErase,
    Extents,
    Flush,
    HandleCommand,
    MeasureSpace,
    Operation,
    Read,
    Remote,
    Steps,
    Unmap,
    Write,
)
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError
from tcmu_runner.scsi.unit import Capabilities

TAIL = 64 << 10  # bytes at the end of a disk: backup partition tables and RAID metadata are there
SCRATCH = 1 << 20  # bytes of each reused buffer for encrypted data; untouched pages take no memory


@dataclass(frozen=True, slots=True)
class LuksOptions:
    """The options of Luks, which describes them. header: bytes. kdf_memory: bytes."""

    key_file: str = ""
    credential: str = ""
    keyring: str = ""
    header: int = 16 << 20
    discard: bool = False
    create: bool = False
    kdf: str = "argon2id"
    kdf_time: int = 3
    kdf_memory: int = 64 << 20

    def __post_init__(self) -> None:
        self.source  # noqa: B018 - it raises what is wrong
        if self.kdf not in ("argon2id", "argon2i", "pbkdf2"):
            raise ConfigError(f"option kdf = {self.kdf!r}: there are argon2id, argon2i, pbkdf2")
        if self.header % SECTOR or not self.header:
            raise ConfigError(f"option header = {self.header}: write whole sectors, for example 16M")

    @property
    def source(self) -> KeySource:
        return KeySource(self.key_file, self.credential, self.keyring)

    @property
    def cost(self) -> formatting.Cost:
        return formatting.Cost(self.kdf, self.kdf_time, self.kdf_memory >> 10)


class Luks(Filter[LuksOptions]):
    """Encrypts the data with AES-XTS in a LUKS2 volume (it opens LUKS1, too). cryptsetup opens the same
    volume, and manages its key slots, header backups and other passphrases.

      key_file     a file: the passphrase is all of it, also a newline at its end (cryptsetup --key-file)
      credential   or the name of a systemd credential of the daemon's unit
      keyring      or the description of a key of the type user in the kernel's keyring
      header       bytes before the data: "16M" (cryptsetup's default for LUKS2); "2M" for LUKS1
      create       true: makes a volume if the storage is empty (zeroes). Otherwise there must be one
      discard      true: UNMAP gives space back. The storage then shows which blocks are unused
      kdf          for create: argon2id, argon2i or pbkdf2, with kdf_time (3) and kdf_memory ("64M")

    The storage below is larger than the LUN by the header. A new volume gets sectors of the LUN's block size;
    an existing volume with sectors of 4096 bytes needs hw_block_size=4096. SANITIZE with cryptographic erase
    makes a new volume key, with one key slot for the same passphrase, and destroys all other key slots.

    Example: { filter = "luks", key_file = "/etc/tcmu/vault.key", create = true }
    """

    name = "luks"
    threads: ClassVar[int] = 4

    _found: Found
    _key: Secret
    _xts: Xts

    def __init__(self, device: Device, options: LuksOptions) -> None:
        self._device = device
        self._options = options
        self._scratch: list[memoryview] = []  # free buffers of SCRATCH bytes

    @classmethod
    def parse(cls, table: Mapping[str, object]) -> LuksOptions:
        return parse_table(LuksOptions, table)

    @classmethod
    def open(cls, device: Device, options: LuksOptions) -> Self:
        secret.forbid_core_dumps()
        return cls(device, options)

    @classmethod
    def size_below(cls, size: int, options: LuksOptions) -> int:
        return size + options.header

    @classmethod
    def size_above(cls, size: int, options: LuksOptions) -> int:
        return size - options.header

    # opening

    def start(self) -> Steps:
        found = yield from unlock.find(self._device.size + self._options.header)
        if found is None:
            yield from self._create()
            return
        self._check(found)
        slot, key = yield from unlock.unlock(found.volume, self._options.source)
        self._use(found, key)
        volume = found.volume
        self._device.log.info("LUKS%d volume %s, by key slot %d", volume.version, volume.uuid, slot)
        if found.damage:
            self._device.log.warning(
                "LUKS volume %s: %s: the other copy is used; mend it with cryptsetup repair",
                volume.uuid, found.damage,
            )  # fmt: skip

    def _check(self, found: Found) -> None:
        volume = found.volume
        if volume.data_offset != self._options.header:
            raise ConfigError(
                f"the data of the LUKS volume begins at {volume.data_offset}, not {self._options.header}: "
                f"write header = {volume.data_offset}"
            )
        if self._device.block_size % volume.sector_size:
            raise ConfigError(
                f"the LUKS volume has sectors of {volume.sector_size} bytes, the LUN blocks of "
                f"{self._device.block_size}: set hw_block_size={volume.sector_size}"
            )

    def _create(self) -> Steps:
        below = self._device.size + self._options.header
        if not self._options.create:
            raise ConfigError("there is no LUKS volume: correct the config string, or add create = true")
        for start, end in ((0, self._options.header), (below - TAIL, below)):
            if not (yield from unlock.is_empty(max(start, 0), end)):
                raise ConfigError(
                    "there is no LUKS volume but other data, which create = true does not overwrite: correct "
                    "the config string, or empty the storage (truncate, blkdiscard -z)"
                )
        key = Secret.random(formatting.KEY_SIZE)
        with self._options.source.read() as passphrase:
            options = self._options
            found = yield from formatting.create(
                passphrase, key, options.cost, options.header, self._device.block_size
            )
        self._use(found, key)
        self._device.log.info("made the LUKS2 volume %s", found.volume.uuid)

    def _use(self, found: Found, key: Secret) -> None:
        self._found, self._key, self._xts = found, key, xts(key, found.volume.sector_size)

    def close(self) -> None:
        if hasattr(self, "_key"):
            del self._xts  # frees OpenSSL's copies of the key
            self._key.wipe()

    # operation

    def identity(self, below: str) -> str:
        """Has the UUID: a new volume over the same storage is another disk to initiators."""
        return f"LUKS volume {self._found.volume.uuid} in {below}"

    def capabilities(self, below: Capabilities) -> Capabilities:
        """Leaves out what needs plain bytes below (zeroes, patterns, comparisons), and unmap_reads_zero:
        unmapped blocks read as noise."""
        return Capabilities(
            write=below.write,
            flush=below.flush,
            unmap=below.unmap and (self._options.discard or self._found.volume.discards),
            extents=below.extents,
            space=below.space,
            crypto_erase=below.write and self._found.header is not None,
        )

    def handle(self, operation: Operation) -> Steps:
        base = self._options.header
        match operation:
            case Read():
                yield Read(operation.offset + base, operation.into)
                self._decrypt(operation.into, operation.offset)
            case Write():
                yield from self._write(operation)
            case Unmap():
                yield replace(operation, offset=operation.offset + base)
            case Extents():
                below = Extents(operation.offset + base, operation.length)
                yield below
                operation.found += [run._replace(offset=run.offset - base) for run in below.found]
            case Flush() | MeasureSpace() | Remote():
                yield operation
            case CryptoErase():
                yield from self._erase()
            case HandleCommand():
                return  # a raw handler below must not see plain bytes; the unit carries the command out
            case _:
                raise ScsiError(INVALID_OPCODE)

    def _write(self, operation: Write) -> Steps:
        """Encrypts into other memory. If this worker dies, its successor repeats the command and needs the
        initiator's plain bytes in the ring."""
        size = iov.length(operation.data)
        scratch = self._borrow(size)
        self._encrypt(operation.data, scratch, operation.offset)
        yield Write(operation.offset + self._options.header, [scratch[:size]], operation.fua)
        if len(scratch) == SCRATCH:
            self._scratch.append(scratch)

    def _tweak(self, offset: int) -> int:
        return offset // SECTOR + self._found.volume.tweak

    def _decrypt(self, into: Buffers, offset: int) -> None:
        """Decrypts in place, unless a sector lies in two buffers."""
        if self._whole_sectors(into):
            for buffer in into:
                self._xts.decrypt(buffer, buffer, self._tweak(offset))
                offset += len(buffer)
        else:
            plain = self._gathered(into)
            self._xts.decrypt(plain, plain, self._tweak(offset))
            iov.scatter(into, plain)

    def _encrypt(self, data: Buffers, into: memoryview, offset: int) -> None:
        if not self._whole_sectors(data):
            data = [self._gathered(data)]
        at = 0
        for buffer in data:
            self._xts.encrypt(into[at : at + len(buffer)], buffer, self._tweak(offset + at))
            at += len(buffer)

    def _whole_sectors(self, buffers: Buffers) -> bool:
        size = self._found.volume.sector_size
        return not any(len(buffer) % size for buffer in buffers)

    def _gathered(self, buffers: Buffers) -> memoryview:
        return memoryview(bytearray(iov.gather(buffers)))

    def _borrow(self, size: int) -> memoryview:
        """Returns memory for encrypted bytes. The caller gives one of SCRATCH bytes back to `_scratch`."""
        if size > SCRATCH:
            return secret.pages(size)
        try:
            return self._scratch.pop()
        except IndexError:
            return secret.pages(SCRATCH)

    # erasing

    def _erase(self) -> Steps:
        """Overwrites the old key slots last: by then the new key is in force in header and memory."""
        before, header = self._found, self._found.header
        if header is None:
            raise ScsiError(INVALID_OPCODE)
        key = Secret.random(formatting.KEY_SIZE)
        with self._options.source.read() as passphrase:
            found = yield from formatting.renew(before, header, passphrase, key, self._options.cost)
        old = self._key
        self._use(found, key)
        old.wipe()
        yield from formatting.wipe(before.volume)
        self._device.log.info("LUKS volume %s: its key is destroyed, all data with it", found.volume.uuid)
