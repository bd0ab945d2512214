"""The other side: volumes that cryptsetup makes and opens. With dm-crypt: tests/vm/test_luks.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tcmu_runner.errors import DeviceError
from tcmu_runner.filters.luks import header2
from tcmu_runner.scsi.sense import INVALID_OPCODE, ScsiError

from .volumes import Place, read, write

QUICK1 = ("--type", "luks1", "--pbkdf-force-iterations", "1000")
QUICK2 = ("--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
ARGON = ("--pbkdf-force-iterations", "4", "--pbkdf-memory", "4096", "--pbkdf-parallel", "2")
SMALL = ("--luks2-keyslots-size", "512k", "--offset", "2048")
KINDS = {
    "luks2": ((*QUICK2, "--sector-size", "512"), 512, 16 << 20, 512),
    "luks2, large sectors": ((*QUICK2, "--sector-size", "4096"), 4096, 16 << 20, 512),
    "luks2, argon2id": (("--type", "luks2", "--sector-size", "512", *ARGON), 512, 16 << 20, 512),
    "luks2, argon2i": (("--type", "luks2", "--pbkdf", "argon2i", *ARGON), 4096, 16 << 20, 512),
    "luks2, short keys, sha512": ((*QUICK2, "--hash", "sha512", "--sector-size", "512"), 512, 16 << 20, 256),
    "luks2, small": ((*QUICK2, "--sector-size", "512", *SMALL), 512, 1 << 20, 512),
    "luks1": (QUICK1, 512, 2 << 20, 512),
    "luks1, sha1": ((*QUICK1, "--hash", "sha1"), 512, 2 << 20, 256),
}  # fmt: skip
DATA = bytes(range(256)) * 64


def dumped_key(place: Place) -> bytes:
    """The volume key as cryptsetup tells it."""
    told = place.cryptsetup("luksDump", "--dump-volume-key", "-q")
    digits = re.search(r"^(?:MK|Volume) (?:dump|key):((?:[\s0-9a-f]{2,})+)", told, re.MULTILINE)
    assert digits, told
    return bytes.fromhex(digits[1])


def decrypted(place: Place, key: bytes, sector_size: int, offset: int, length: int) -> bytes:
    stored, found = place.image.read_bytes()[place.header :], b""
    for at in range(offset, offset + length, sector_size):
        tweak = (at // 512).to_bytes(16, "little")
        decryptor = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
        found += decryptor.update(stored[at : at + sector_size])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_of_cryptsetup_opens_here(kind: str, tmp_path: Path) -> None:
    arguments, block_size, header, key_size = KINDS[kind]
    place = Place(tmp_path, header=header).format(*arguments, key_size=key_size)
    key = dumped_key(place)
    assert len(key) == key_size // 8
    header_before = place.image.read_bytes()[:header]
    disk = place.open(block_size=block_size)
    write(disk, 1 << 20, DATA)
    assert read(disk, 1 << 20, len(DATA)) == DATA
    disk.close()
    assert decrypted(place, key, block_size, 1 << 20, len(DATA)) == DATA
    assert place.image.read_bytes()[:header] == header_before


@pytest.mark.parametrize("block_size", [512, 4096])
@pytest.mark.parametrize("kdf", ["argon2id", "argon2i", "pbkdf2"])
def test_a_volume_of_ours_opens_there(kdf: str, block_size: int, tmp_path: Path) -> None:
    place = Place(tmp_path)
    cost = {"kdf_time": 1000} if kdf == "pbkdf2" else {"kdf_time": 4, "kdf_memory": "4M"}
    disk = place.create(block_size=block_size, kdf=kdf, **cost)
    write(disk, 1 << 20, DATA)
    disk.close()
    place.cryptsetup("luksOpen", "--test-passphrase")
    told = place.cryptsetup("luksDump")
    assert kdf in told and f"sector: {block_size} [bytes]" in told
    assert decrypted(place, dumped_key(place), block_size, 1 << 20, len(DATA)) == DATA


def test_key_slots_are_managed_by_cryptsetup(tmp_path: Path) -> None:
    """It adds a second passphrase to a volume of ours, and removes the first one."""
    place = Place(tmp_path, header=16 << 20).created()
    other = tmp_path / "other"
    other.write_bytes(b"the second one")
    cheap = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    place.cryptsetup("luksAddKey", *cheap, after=(str(other),))
    place.open().close()
    first = place.key.read_bytes()
    place.key.write_bytes(other.read_bytes())
    place.cryptsetup("luksKillSlot", "-q", after=("0",))
    place.key.write_bytes(first)
    with pytest.raises(DeviceError, match="opens no key slot"):
        place.open()
    place.key.write_bytes(other.read_bytes())
    disk = place.open()
    write(disk, 0, DATA)
    disk.crypto_erase()
    assert read(disk, 0, len(DATA)) != DATA
    write(disk, 0, DATA)
    disk.close()
    place.cryptsetup("luksOpen", "--test-passphrase")
    told = place.cryptsetup("luksDump")
    assert re.findall(r"^  (\d+): luks2$", told, re.MULTILINE) == ["0"]
    assert decrypted(place, dumped_key(place), 512, 0, len(DATA)) == DATA


def test_a_volume_of_luks1_is_not_erased(tmp_path: Path) -> None:
    """It announces no cryptographic erase, and refuses one."""
    place = Place(tmp_path, header=2 << 20).format(*QUICK1)
    before = place.state()
    disk = place.open()
    assert not disk.capabilities().crypto_erase
    with pytest.raises(ScsiError) as refused:
        disk.crypto_erase()
    assert refused.value.sense == INVALID_OPCODE
    disk.close()
    assert place.state() == before


def test_all_slots_destroyed_by_cryptsetup(tmp_path: Path) -> None:
    place = Place(tmp_path).created()
    place.cryptsetup("luksErase", "-q")
    before = place.state()
    with pytest.raises(DeviceError, match="has no key slot left"):
        place.create()
    assert place.state() == before


def test_a_persistent_flag_of_cryptsetup_counts(tmp_path: Path) -> None:
    """`cryptsetup open --allow-discards --persistent` sets it, but needs dm-crypt; luksDump reads it here."""
    place = Place(tmp_path, header=16 << 20).format(*QUICK2, "--sector-size", "512")
    disk = place.open()
    assert not disk.capabilities().unmap
    disk.close()
    header = header2.parse(place.image.read_bytes()[:0x4000])
    metadata = json.loads(header.json)
    metadata["config"]["flags"] = ["allow-discards"]
    place.patch(0, header.next(json.dumps(metadata).encode()).copies())
    assert re.search(r"^Flags:\s+allow-discards", place.cryptsetup("luksDump"), re.MULTILINE)
    disk = place.open()
    assert disk.capabilities().unmap
    disk.close()


def test_a_cipher_that_is_not_known_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, header=16 << 20).format(*QUICK2, "--cipher", "aes-cbc-essiv:sha256", key_size=256)
    before = place.state()
    with pytest.raises(
        DeviceError, match="is encrypted with aes-cbc-essiv:sha256; this filter knows aes-xts-plain64"
    ):
        place.open()
    assert place.state() == before


OTHER_CIPHER = ("--keyslot-cipher", "aes-cbc-essiv:sha256", "--keyslot-key-size", "256")
HASHES = ("sha224", "sha384", "sha3-256", "blake2b-512", "blake2s-256")
VARIETIES = {
    **{f"hash {name}": ("--hash", name) for name in HASHES},
    "sectors of 1024": ("--sector-size", "1024"),
    "sectors of 2048": ("--sector-size", "2048"),
    "large metadata": ("--luks2-metadata-size", "64k"),
    "label": ("--label", "vault", "--subsystem", "tcmu"),
    "slot 31": ("--key-slot", "31"),
    "offset": ("--offset", "40960"),
    "align": ("--align-payload", "8192"),
}  # fmt: skip


def placed(tmp_path: Path, *arguments: str) -> Place:
    """A volume of cryptsetup's, whose data is where its dump says."""
    sectors = () if "--sector-size" in arguments else ("--sector-size", "512")
    place = Place(tmp_path, header=24 << 20).format(*QUICK2, *sectors, *arguments)
    found = re.search(r"^\toffset: (\d+) \[bytes\]", place.cryptsetup("luksDump"), re.MULTILINE)
    assert found
    place.header = int(found[1])
    return place


@pytest.mark.parametrize("variety", VARIETIES)
def test_whatever_cryptsetup_makes_opens_here(variety: str, tmp_path: Path) -> None:
    place = placed(tmp_path, *VARIETIES[variety])
    sectors = re.search(r"sector: (\d+) \[bytes\]", place.cryptsetup("luksDump"))
    assert sectors
    disk = place.open(block_size=int(sectors[1]))
    write(disk, 0, DATA)
    disk.close()
    assert decrypted(place, dumped_key(place), int(sectors[1]), 0, len(DATA)) == DATA


@pytest.mark.parametrize(
    "cipher", ["aes-xts-plain", "aes-cbc-plain64", "aes-xts-essiv:sha256", "aes-xts-plain64be"]
)
@pytest.mark.parametrize("kind", [QUICK1, QUICK2])
def test_or_is_refused_with_a_reason(cipher: str, kind: tuple[str, ...], tmp_path: Path) -> None:
    key_size = 256 if "cbc" in cipher else 512
    place = Place(tmp_path, header=16 << 20).format(*kind, "--cipher", cipher, key_size=key_size)
    with pytest.raises(DeviceError, match=f"is encrypted with {cipher}; this filter knows aes-xts-plain64"):
        place.open()


def add(place: Place, *arguments: str) -> None:
    place.cryptsetup("luksAddKey", *QUICK2[2:], "-q", *arguments, after=(str(place.key),))


def test_a_key_slot_of_another_cipher_leaves_the_volume_usable(tmp_path: Path) -> None:
    place = placed(tmp_path)
    add(place, "--new-key-slot", "1", *OTHER_CIPHER)
    assert "aes-cbc-essiv:sha256" in place.cryptsetup("luksDump")
    disk = place.open()
    write(disk, 0, DATA)
    disk.close()
    place.cryptsetup("luksKillSlot", "-q", after=("0",))
    with pytest.raises(
        DeviceError,
        match="has no key slot that could be used: it has a key slot 1 encrypted with aes-cbc-essiv",
    ):
        place.open()


def test_an_erased_volume_has_no_key_slot_of_another_cipher_left(tmp_path: Path) -> None:
    """SANITIZE destroys the key material of all of them, also of those that this filter cannot open."""
    place = placed(tmp_path)
    add(place, "--new-key-slot", "1", *OTHER_CIPHER)
    (area,) = [slot for slot in metadata_of(place)["keyslots"].items() if slot[0] == "1"]
    at, size = int(area[1]["area"]["offset"]), int(area[1]["area"]["size"])
    before = place.image.read_bytes()[at : at + size]
    disk = place.open()
    disk.crypto_erase()
    disk.close()
    after = place.image.read_bytes()[at : at + size]
    assert not any(before[n : n + 512] == after[n : n + 512] for n in range(0, size, 512))
    place.cryptsetup("luksOpen", "--test-passphrase")


def metadata_of(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(header2.parse(place.image.read_bytes()[:0x4000]).json)
    return found


def test_unbound_key_slots_and_tokens_are_left_alone(tmp_path: Path) -> None:
    place = placed(tmp_path)
    add(place, "--unbound", "--key-size", "128", "--new-key-slot", "2")
    (tmp_path / "token.json").write_text('{"type":"other","keyslots":["0"]}')
    place.cryptsetup("token", "import", "--json-file", str(tmp_path / "token.json"))
    disk = place.open()
    write(disk, 0, DATA)
    disk.close()
    assert metadata_of(place)["tokens"]


def test_a_reencryption_under_way_is_to_be_finished(tmp_path: Path) -> None:
    place = placed(tmp_path)
    place.cryptsetup("reencrypt", "--init-only", "-q", *QUICK2[2:])
    with pytest.raises(DeviceError, match="needs online-reencrypt-v2: finish it with cryptsetup"):
        place.open()
