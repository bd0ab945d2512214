"""The kernel's keyring is in tests/vm: containers have none."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tcmu_runner import ConfigError
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
