"""`luks`: LUKS volumes, as cryptsetup makes and opens them, under a LUN.

volume key: encrypts the data (AES-XTS).
key slot: a copy of the volume key, encrypted with a key that is derived from one passphrase or key file.
key material: the content of a key slot: the volume key split into stripes; all of them are needed.
digest: a hash by which the filter checks a volume key.
segment: the place of the data, and its encryption.

af          the anti-forensic splitter: a key as stripes; all of them are needed
filter      the filter
formatting  makes a volume, renews its key, wipes its key slots
header1     the header of LUKS1
header2     the binary header of LUKS2
kdf         from a passphrase to a key: argon2id, argon2i, PBKDF2
key         reads the passphrase: key file, credential, keyring
keyslots    the volume key, encrypted with a passphrase
metadata    the JSON metadata of LUKS2
portable    AES-XTS by the package cryptography; many times slower
secret      locked memory for keys
unlock      finds the headers, opens a key slot
volume      what a header of either version says, checked
xts         AES-XTS by OpenSSL
"""

from tcmu_runner.filters.luks.filter import Luks

__all__ = ["Luks"]
