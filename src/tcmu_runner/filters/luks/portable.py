"""AES-XTS by the package cryptography, for machines without libcrypto.so.3. It is many times slower."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tcmu_runner.filters.luks.secret import Secret


class PortableXts:
    """See xts.Xts."""

    def __init__(self, key: Secret, sector_size: int) -> None:
        self._key = key
        self._sector_size = sector_size

    def encrypt(self, into: memoryview, data: memoryview, sector: int) -> None:
        self._run(into, data, sector, encrypts=True)

    def decrypt(self, into: memoryview, data: memoryview, sector: int) -> None:
        self._run(into, data, sector, encrypts=False)

    def _run(self, into: memoryview, data: memoryview, sector: int, *, encrypts: bool) -> None:
        algorithm = algorithms.AES(bytes(self._key.view))
        for at in range(0, len(data), self._sector_size):
            cipher = Cipher(algorithm, modes.XTS((sector + at // 512).to_bytes(16, "little")))
            context = cipher.encryptor() if encrypts else cipher.decryptor()
            into[at : at + self._sector_size] = context.update(data[at : at + self._sector_size])
