"""From a passphrase to a key: argon2id, argon2i (RFC 9106) and PBKDF2."""

from __future__ import annotations

import hashlib

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.volume import Derivation
from tcmu_runner.units import format_size


def derive(passphrase: Secret, how: Derivation, size: int) -> Secret:
    """Returns `size` bytes. Works for as long as the cost demands, without the interpreter lock. Raises
    ConfigError if a library or memory is missing."""
    if how.kind == "pbkdf2":
        return Secret.taken_from(
            hashlib.pbkdf2_hmac(how.hash, passphrase.view, how.salt, how.time, size),
        )
    return _argon2(passphrase, how, size)


def _argon2(passphrase: Secret, how: Derivation, size: int) -> Secret:
    """Calls the package's lowest level: its other functions leave copies of passphrase and key in memory."""
    try:
        from argon2.low_level import Type, core, error_to_str, ffi  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            f"{how.kind} needs the package argon2-cffi (Debian: python3-argon2): install it, or make key "
            "slots with cryptsetup luksConvertKey --pbkdf pbkdf2"
        ) from None
    key = Secret(size)
    with (
        ffi.from_buffer("uint8_t[]", key.view) as out,
        ffi.from_buffer("uint8_t[]", passphrase.view) as password,
        ffi.new("uint8_t[]", how.salt) as salt,
    ):
        context = {
            "version": 0x13, "out": out, "outlen": size, "pwd": password, "pwdlen": len(passphrase),
            "salt": salt, "saltlen": len(how.salt), "t_cost": how.time, "m_cost": how.memory,
            "lanes": how.lanes, "threads": how.lanes,
        }  # fmt: skip
        kind = Type.ID if how.kind == "argon2id" else Type.I
        code = core(ffi.new("argon2_context *", context), kind.value)
    if code:
        key.wipe()
        raise ConfigError(
            f"{how.kind} fails: {error_to_str(code)}; it needs {format_size(how.memory << 10)}: raise "
            "workers.memory, or lower it with cryptsetup luksConvertKey --pbkdf-memory"
        )
    return key
