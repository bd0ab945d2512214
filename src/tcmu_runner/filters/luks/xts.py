"""AES-XTS over runs of sectors, by OpenSSL.

The functions of libcrypto are called by ctypes, with one context for each thread and direction. The package
cryptography makes a new context for each sector and takes ten times as long. PyDLL keeps the interpreter lock
during a call: to release and take it, twice for each sector, costs more than the sector (docs/adr/0012).
"""

from __future__ import annotations

import ctypes
import threading
from typing import Protocol

from tcmu_runner.errors import ConfigError
from tcmu_runner.filters.luks.secret import Secret, address

SECTOR = 512  # bytes: the tweak counts such sectors, also in a volume with larger ones
KEY_SIZES = {32: "aes_128_xts", 64: "aes_256_xts"}


class Xts(Protocol):
    """Encrypts and decrypts whole sectors; `into` and `data` may be the same memory. sector: number of the
    first one, in units of 512 bytes. Called on any thread."""

    def encrypt(self, into: memoryview, data: memoryview, sector: int) -> None: ...

    def decrypt(self, into: memoryview, data: memoryview, sector: int) -> None: ...


def xts(key: Secret, sector_size: int) -> Xts:
    """The caller keeps the key until the Xts is gone. Raises ConfigError if no library is there."""
    if _libcrypto is not None:
        return OpensslXts(_libcrypto, key, sector_size)
    try:
        from tcmu_runner.filters.luks.portable import PortableXts  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "neither libcrypto.so.3 (OpenSSL 3) nor the package cryptography is there: install one of them"
        ) from None
    return PortableXts(key, sector_size)


def _load() -> ctypes.PyDLL | None:
    try:
        library = ctypes.PyDLL("libcrypto.so.3")
    except OSError:
        return None
    pointer = ctypes.c_void_p
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_CIPHER_CTX_free.argtypes = (pointer,)
    library.EVP_CipherInit_ex.argtypes = (pointer, pointer, pointer, pointer, pointer, ctypes.c_int)
    library.EVP_CipherUpdate.argtypes = (pointer, pointer, pointer, pointer, ctypes.c_int)
    for name in KEY_SIZES.values():
        getattr(library, f"EVP_{name}").restype = pointer
    return library


_libcrypto = _load()


class _Context:
    """OpenSSL's context for one key and direction. OpenSSL zeroes its expanded key when it is freed."""

    def __init__(self, library: ctypes.PyDLL, key: Secret, encrypts: int) -> None:
        self._free = library.EVP_CIPHER_CTX_free
        self.pointer = ctypes.c_void_p(library.EVP_CIPHER_CTX_new())
        cipher = getattr(library, f"EVP_{KEY_SIZES[len(key)]}")()
        if not library.EVP_CipherInit_ex(
            self.pointer, cipher, None, address(key.view), bytes(16), encrypts
        ):  # OpenSSL refuses a key with two equal halves
            raise ConfigError("OpenSSL refuses the volume key: make a new volume")

    def __del__(self) -> None:
        self._free(self.pointer)


class OpensslXts:
    """See Xts."""

    def __init__(self, library: ctypes.PyDLL, key: Secret, sector_size: int) -> None:
        self._library = library
        self._key = key
        self._sector_size = sector_size
        self._contexts = threading.local()  # freed when their thread ends

    def encrypt(self, into: memoryview, data: memoryview, sector: int) -> None:
        self._run(self._context("encrypting", 1), into, data, sector)

    def decrypt(self, into: memoryview, data: memoryview, sector: int) -> None:
        self._run(self._context("decrypting", 0), into, data, sector)

    def _context(self, name: str, encrypts: int) -> ctypes.c_void_p:
        found: _Context | None = getattr(self._contexts, name, None)
        if found is None:
            found = _Context(self._library, self._key, encrypts)
            setattr(self._contexts, name, found)
        return found.pointer

    def _run(self, context: ctypes.c_void_p, into: memoryview, data: memoryview, sector: int) -> None:
        start, update = self._library.EVP_CipherInit_ex, self._library.EVP_CipherUpdate
        size, step, done = self._sector_size, self._sector_size // SECTOR, ctypes.byref(ctypes.c_int())
        target, source = address(into), address(data)
        for at in range(0, len(data), size):
            tweak = sector.to_bytes(16, "little")
            if not (
                start(context, None, None, None, tweak, -1)
                and update(context, target + at, done, source + at, size)
            ):
                raise OSError(f"OpenSSL cannot process sector {sector}")
            sector += step
