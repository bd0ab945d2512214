"""The JSON metadata of LUKS2 (On-Disk Format Specification 1.1, chapter 3)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from tcmu_runner.filters.luks.volume import (
    ENCRYPTION,
    Derivation,
    Digest,
    HeaderError,
    Keyslot,
    OtherSlot,
    Volume,
    check_encryption,
    require,
)

Json = Mapping[str, Any]


def parse(text: bytes, uuid: str) -> Volume:
    """text: JSON. Raises HeaderError, also for features of a newer cryptsetup."""
    try:
        return _volume(json.loads(text), uuid)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise HeaderError(f"has metadata that cannot be understood ({error!r})") from None


def _volume(root: Json, uuid: str) -> Volume:
    unknown = root["config"].get("requirements", {}).get("mandatory", [])
    require(not unknown, f"needs {', '.join(unknown)}: finish it with cryptsetup")
    require(list(root["segments"]) == ["0"], "has several segments: finish its reencryption with cryptsetup")
    segment = root["segments"]["0"]
    require(
        segment["type"] == "crypt", f"has data of the kind {segment['type']}, which this filter knows not"
    )
    require("integrity" not in segment, "has data with integrity tags, which this filter knows not")
    require(segment["size"] == "dynamic", "has a segment of fixed size: cryptsetup makes dynamic ones")
    check_encryption(segment["encryption"])
    found = [_slot(int(number), slot) for number, slot in root["keyslots"].items()]
    return Volume(
        2, uuid, int(segment["offset"]), segment["sector_size"], _digest(root["digests"]),
        tuple(slot for slot in found if isinstance(slot, Keyslot)),
        int(segment["iv_tweak"]), "allow-discards" in root["config"].get("flags", []),
        tuple(slot for slot in found if isinstance(slot, OtherSlot)),
    )  # fmt: skip


def _slot(number: int, slot: Json) -> Keyslot | OtherSlot:
    """Returns an OtherSlot, with the reason, for one that this filter cannot open: others may still open."""
    area = slot.get("area", {})
    try:
        require(slot["type"] == "luks2" and area["type"] == "raw", f"has a key slot {number} of another kind")
        return _keyslot(number, slot)
    except HeaderError as error:
        return OtherSlot(number, int(area.get("offset", 0)), int(area.get("size", 0)), error.what)


def _keyslot(number: int, slot: Json) -> Keyslot:
    area, stripes = slot["area"], slot["af"]
    cipher = area["encryption"]
    require(
        cipher == ENCRYPTION,
        f"has a key slot {number} encrypted with {cipher}, of which this filter knows {ENCRYPTION} only",
    )
    return Keyslot(
        number, slot["key_size"], int(area["offset"]), int(area["size"]), area["key_size"],
        stripes["stripes"], stripes["hash"], _derivation(slot["kdf"]), slot.get("priority", 1),
    )  # fmt: skip


def _derivation(kdf: Json) -> Derivation:
    salt = base64.b64decode(kdf["salt"])
    if kdf["type"] == "pbkdf2":
        return Derivation("pbkdf2", salt, kdf["iterations"], hash=kdf["hash"])
    return Derivation(kdf["type"], salt, kdf["time"], kdf["memory"], kdf["cpus"])


def _digest(digests: Json) -> Digest:
    found = next((each for each in digests.values() if "0" in each["segments"]), None)
    require(found is not None, "has no digest of its volume key")
    assert found is not None
    require(found["type"] == "pbkdf2", f"has a digest of the unknown type {found['type']}")
    salt, value = base64.b64decode(found["salt"]), base64.b64decode(found["digest"])
    return Digest(found["hash"], found["iterations"], salt, value, frozenset(map(int, found["keyslots"])))


def compose(volume: Volume, header_size: int, before: bytes = b"{}") -> bytes:
    """Returns JSON. before: the metadata that it replaces; all but key slots, digests and tokens is kept."""
    root = dict(json.loads(before))
    segment = {
        "type": "crypt", "offset": str(volume.data_offset), "size": "dynamic", "iv_tweak": str(volume.tweak),
        "encryption": ENCRYPTION, "sector_size": volume.sector_size,
    }  # fmt: skip
    config = {
        "json_size": str(header_size - 4096),
        "keyslots_size": str(volume.data_offset - 2 * header_size),
    }
    root = {"config": config, "segments": {"0": segment}, **root}
    root["keyslots"] = {str(slot.number): _composed(slot) for slot in volume.keyslots}
    root["digests"] = {"0": _composed_digest(volume.digest)}
    root["tokens"] = {}  # tokens name key slots, which are gone
    return json.dumps(root, separators=(",", ":")).encode()


def _composed(slot: Keyslot) -> Json:
    area = {
        "type": "raw", "offset": str(slot.offset), "size": str(slot.size), "encryption": ENCRYPTION,
        "key_size": slot.area_key_size,
    }  # fmt: skip
    stripes = {"type": "luks1", "stripes": slot.stripes, "hash": slot.hash}
    kdf = _composed_derivation(slot.derivation)
    return {"type": "luks2", "key_size": slot.key_size, "af": stripes, "area": area, "kdf": kdf}


def _composed_derivation(derivation: Derivation) -> Json:
    salt = _text(derivation.salt)
    if derivation.kind == "pbkdf2":
        return {"type": "pbkdf2", "salt": salt, "hash": derivation.hash, "iterations": derivation.time}
    cost = {"time": derivation.time, "memory": derivation.memory, "cpus": derivation.lanes}
    return {"type": derivation.kind, "salt": salt, **cost}


def _composed_digest(digest: Digest) -> Json:
    return {
        "type": "pbkdf2", "keyslots": [str(number) for number in sorted(digest.keyslots)], "segments": ["0"],
        "hash": digest.hash, "iterations": digest.iterations, "salt": _text(digest.salt),
        "digest": _text(digest.value),
    }  # fmt: skip


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
