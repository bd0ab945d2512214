"""Two implementations beside each other; what cryptsetup makes of it is in test_cryptsetup.py."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner import ConfigError
from tcmu_runner.filters.luks import xts as module
from tcmu_runner.filters.luks.portable import PortableXts
from tcmu_runner.filters.luks.secret import Secret
from tcmu_runner.filters.luks.xts import OpensslXts, xts

# IEEE 1619-2007, annex B, vector 4: XTS-AES-128, data unit 0; the first bytes of what comes out.
KEY = bytes.fromhex("2718281828459045235360287471352631415926535897932384626433832795")
PLAIN = bytes(range(256)) * 2
FIRST = bytes.fromhex("27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c")


def secret(data: bytes) -> Secret:
    made = Secret(len(data))
    made.view[:] = data
    return made


@pytest.mark.parametrize("kind", ["openssl", "portable"])
def test_a_vector_of_the_standard(kind: str) -> None:
    key, into = secret(KEY), memoryview(bytearray(512))
    cipher = xts(key, 512) if kind == "openssl" else PortableXts(key, 512)
    cipher.encrypt(into, memoryview(bytearray(PLAIN)), 0)
    assert bytes(into[:32]) == FIRST
    cipher.decrypt(into, into, 0)
    assert bytes(into) == PLAIN


@given(
    key=st.binary(min_size=64, max_size=64).filter(lambda key: key[:32] != key[32:]),
    size=st.sampled_from([512, 1024, 4096]),
    sectors=st.integers(1, 5),
    first=st.one_of(st.integers(0, 1 << 12), st.integers(1 << 32, 1 << 52)),
)
def test_both_do_the_same_and_back(key: bytes, size: int, sectors: int, first: int) -> None:
    plain = memoryview(bytearray(os.urandom(size * sectors)))
    one, other = (memoryview(bytearray(len(plain))) for _ in range(2))
    with secret(key) as kept:
        fast, slow = xts(kept, size), PortableXts(kept, size)
        assert isinstance(fast, OpensslXts)
        fast.encrypt(one, plain, first)
        slow.encrypt(other, plain, first)
        assert one == other != plain
        fast.decrypt(one, one, first)
        slow.decrypt(other, other, first)
        assert one == other == plain


def test_threads_do_not_meet() -> None:
    """Each has contexts of its own."""
    data, wrong = [os.urandom(1 << 16) for _ in range(4)], []
    with secret(os.urandom(64)) as key:
        cipher = xts(key, 512)

        def go(number: int) -> None:
            buffer = memoryview(bytearray(data[number]))
            for _ in range(20):
                cipher.encrypt(buffer, buffer, number)
                cipher.decrypt(buffer, buffer, number)
            if buffer != data[number]:
                wrong.append(number)

        threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_key_with_two_equal_halves_is_refused() -> None:
    with secret(b"k" * 64) as key, pytest.raises(ConfigError, match="refuses the volume key"):
        xts(key, 512).encrypt(memoryview(bytearray(512)), memoryview(bytearray(512)), 0)


def test_what_openssl_cannot_process_is_an_error() -> None:
    """IEEE 1619 knows no data unit of less than one block, 16 bytes."""
    assert module._libcrypto is not None
    buffer = memoryview(bytearray(8))
    with secret(KEY) as key, pytest.raises(OSError, match="OpenSSL cannot process sector 7"):
        OpensslXts(module._libcrypto, key, 8).encrypt(buffer, buffer, 7)


def test_a_machine_without_openssl_3_has_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "PyDLL", missing)
    assert module._load() is None


def test_without_openssl_the_package_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libcrypto", None)
    with secret(KEY) as key:
        assert isinstance(xts(key, 512), PortableXts)


def test_without_both_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libcrypto", None)
    monkeypatch.setitem(__import__("sys").modules, "tcmu_runner.filters.luks.portable", None)
    with secret(KEY) as key, pytest.raises(ConfigError, match="install one of them"):
        xts(key, 512)
