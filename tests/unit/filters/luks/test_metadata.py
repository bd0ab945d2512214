from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.filters.luks import metadata
from tcmu_runner.filters.luks.volume import Derivation, Digest, HeaderError, Keyslot, Volume

ARGON = Derivation("argon2id", b"s" * 32, 4, 65536, 2)
PBKDF2 = Derivation("pbkdf2", b"t" * 32, 1000, hash="sha512")
VOLUME = Volume(
    2, "uuid", 16 << 20, 4096, Digest("sha256", 1000, b"salt", b"d" * 32, frozenset({0, 3})),
    (
        Keyslot(0, 64, 0x8000, 258048, 64, 4000, "sha256", ARGON),
        Keyslot(3, 64, 0x8000 + 258048, 258048, 64, 4000, "sha512", PBKDF2),
    ),
    tweak=8,
)  # fmt: skip
TEXT = metadata.compose(VOLUME, 0x4000)
ROOT = json.loads(TEXT)


def paths(node: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [before] if before else []
    if isinstance(node, dict):
        for name, value in node.items():
            found += paths(value, (*before, name))
    return found


def replaced(path: tuple[str, ...], value: object) -> bytes:
    root: Any = copy.deepcopy(ROOT)
    node = root
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return json.dumps(root).encode()


def test_what_is_composed_is_understood() -> None:
    assert metadata.parse(TEXT, "uuid") == VOLUME


def test_what_is_not_about_keys_stays() -> None:
    before = {**ROOT, "config": {**ROOT["config"], "flags": ["allow-discards"]}, "tokens": {"0": {}}}
    after = json.loads(metadata.compose(VOLUME, 0x4000, json.dumps(before).encode()))
    assert after["config"] == before["config"]
    assert after["tokens"] == {}
    assert metadata.parse(json.dumps(after).encode(), "uuid").discards


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 1 << 70), st.text(max_size=6),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["-1", "99999999999", "1.5"]),
)  # fmt: skip


@given(path=st.sampled_from(paths(ROOT)), value=ANYTHING)
def test_whatever_stands_somewhere_is_understood_or_refused(path: tuple[str, ...], value: object) -> None:
    try:
        metadata.parse(replaced(path, value), "uuid")
    except HeaderError as error:
        assert str(error).startswith("the LUKS volume ")


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (
            ("config", "requirements"),
            {"mandatory": ["online-reencrypt-v2"]},
            "needs online-reencrypt-v2: finish it",
        ),
        (("segments", "1"), {"type": "crypt"}, "several segments"),
        (("segments", "0", "integrity"), {}, "has data with integrity tags, which this filter knows not"),
        (("segments", "0", "type"), "hw-opal", "has data of the kind hw-opal, which this filter knows not"),
        (("segments", "0", "encryption"), "aes-cbc-essiv:sha256", "is encrypted with aes-cbc-essiv:sha256"),
        (("segments", "0", "sector_size"), 777, "has sectors of 777 bytes"),
        (("segments", "0", "size"), "4096", "fixed size"),
        (("segments", "0", "offset"), "32768", "a key slot 0 that lies in the data"),
        (("segments", "0", "offset"), "0", "has its header apart from its data"),
        (("keyslots", "0", "area", "offset"), "-1", "a key slot 0 that lies in the data"),
        (("digests",), {}, "no digest"),
    ],
)
def test_the_reason_is_told(path: tuple[str, ...], value: object, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        metadata.parse(replaced(path, value), "uuid")


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("kdf", "type"), "scrypt", "unknown key derivation 'scrypt'"),
        (("kdf", "memory"), 1 << 40, "derives keys with 1099511627776 KiB"),
        (("area", "size"), "512", "key slot 0 without room"),
        (("area", "encryption"), "serpent-xts-plain64", "a key slot 0 encrypted with serpent-xts-plain64"),
        (("area", "type"), "journal", "a key slot 0 of another kind"),
        (("type",), "luks3", "a key slot 0 of another kind"),
        (("key_size",), 20, "a key slot 0 with keys of a strange size"),
        (("area", "key_size"), 1 << 31, "a key slot 0 with keys of a strange size"),
        (("af", "hash"), "whirlpool9", "hash 'whirlpool9', which this Python has not"),
        (("af", "hash"), "shake_128", "hash 'shake_128', which this Python has not"),
    ],
)
def test_what_is_wrong_with_one_key_slot_leaves_the_others(
    path: tuple[str, ...], value: object, why: str
) -> None:
    volume = metadata.parse(replaced(("keyslots", "0", *path), value), "uuid")
    assert [slot.number for slot in volume.usable] == [3]
    (other,) = volume.others
    assert (other.number, why in other.why) == (0, True)
    assert len(volume.areas) == 2


def test_key_slots_of_another_kind_are_left_alone() -> None:
    volume = metadata.parse(replaced(("keyslots", "5"), {"type": "reencrypt"}), "uuid")
    assert [slot.number for slot in volume.keyslots] == [0, 3]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(replaced(("segments", "0", "offset"), float("inf")), id="infinite"),
    ],
)
def test_what_python_itself_cannot_take_is_refused(text: bytes) -> None:
    with pytest.raises(HeaderError, match="has metadata that cannot be understood"):
        metadata.parse(text, "uuid")
