"""The kernel's keyring is in tests/vm: containers have none."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tcmu_runner import ConfigError
from tcmu_runner.filters.luks import key as module
from tcmu_runner.filters.luks.key import KeySource


def test_every_byte_of_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"line\n\0\xff\n")
    with KeySource(key_file=str(path)).read() as secret:
        assert bytes(secret.view) == b"line\n\0\xff\n"


def test_a_credential_is_a_file_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "vault").write_bytes(b"key")
    with KeySource(credential="vault").read({"CREDENTIALS_DIRECTORY": str(tmp_path)}) as secret:
        assert bytes(secret.view) == b"key"


def test_a_service_without_credentials_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add LoadCredential=vault:PATH to tcmu-runner"):
        KeySource(credential="vault").read({})
    with pytest.raises(ConfigError, match="credential vault: No such file"):
        KeySource(credential="vault").read({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "Give one of key_file, credential and keyring"),
        ({"key_file": "/k", "keyring": "vault"}, "Give one of"),
        ({"key_file": "key"}, "write an absolute path"),
        ({"credential": "../shadow"}, "without a directory"),
    ],
)
def test_where_it_is_has_to_be_clear(options: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        KeySource(**options)


def test_what_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "long").open("wb") as file:
        file.truncate((8 << 20) + 1)
    for name, why in {
        "none": "No such file or directory: correct the path",
        "empty": "has 0 bytes: write a key",
        "long": "has 8388609 bytes",
        ".": "is no file",
    }.items():
        with pytest.raises(ConfigError, match=why):
            KeySource(key_file=str(tmp_path / name)).read()


def test_the_keyring_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError("not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match="install libkeyutils1"):
        KeySource(keyring="vault").read()


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"whole key")
    monkeypatch.setattr(os, "preadv", lambda *_: 5)
    with pytest.raises(ConfigError, match=f"key file {path} changes while it is read: try again"):
        KeySource(key_file=str(path)).read()


class Keyutils:
    """libkeyutils with one key, number 7, in the user's keyring. shown: the bytes that keyctl_read copies."""

    def __init__(self, content: bytes, shown: int) -> None:
        self.content = content
        self.shown = shown
        self.linked: list[tuple[int, int]] = []

    def keyctl_link(self, key: int, keyring: int) -> int:
        self.linked.append((key, keyring))
        return 0

    def request_key(self, kind: bytes, description: bytes, callout: None, keyring: int) -> int:
        assert (kind, callout, keyring) == (b"user", None, 0)
        assert self.linked == [(-4, -1)], "the user's keyring is not searched before it is linked"
        if description == b"vault":
            return 7
        ctypes.set_errno(errno.ENOKEY)
        return -1

    def keyctl_read(self, key: int, buffer: int | None, length: int) -> int:
        assert key == 7
        if buffer is None:
            return len(self.content) if self.content else -1
        ctypes.memmove(buffer, self.content, min(length, self.shown))
        return self.shown


def test_a_key_of_the_keyring_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_keyutils", lambda: Keyutils(b"in the\0kernel\n", 14))
    with KeySource(keyring="vault").read() as secret:
        assert bytes(secret.view) == b"in the\0kernel\n"


def test_a_key_that_is_not_in_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_keyutils", lambda: Keyutils(b"", 0))
    with pytest.raises(
        ConfigError, match=r"key 'other' .* Required key not available: add it with keyctl padd user other @u"
    ):
        KeySource(keyring="other").read()


@pytest.mark.parametrize(("content", "shown"), [(b"", 0), (b"replaced", 3)])
def test_a_key_of_the_keyring_that_cannot_be_read(
    content: bytes, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without permission keyctl_read fails; of a key replaced meanwhile it returns another length."""
    monkeypatch.setattr(module, "_keyutils", lambda: Keyutils(content, shown))
    with pytest.raises(ConfigError, match="key 'vault' of the kernel's keyring cannot be read: see keyctl"):
        KeySource(keyring="vault").read()


def test_the_functions_of_the_keyring_take_sizes_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """keyctl_read(3) has a size_t and a long; ctypes would cut them to int."""
    found = SimpleNamespace(request_key=SimpleNamespace(), keyctl_read=SimpleNamespace())
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: found)
    assert id(module._keyutils()) == id(found)
    assert found.keyctl_read.argtypes == (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    assert found.keyctl_read.restype is ctypes.c_long


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (KeySource(key_file="/k"), "key file /k"),
        (KeySource(credential="vault"), "credential vault"),
        (KeySource(keyring="vault"), "key 'vault' of the kernel's keyring"),
    ],
)
def test_messages_name_the_source(source: KeySource, text: str) -> None:
    assert str(source) == text
