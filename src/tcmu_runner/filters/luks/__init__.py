"""`luks`: LUKS volumes, as cryptsetup makes and opens them, under a LUN.

volume key    what the data is encrypted with (AES-XTS).
key slot      the volume key once more, encrypted with what is derived from one passphrase or key file.
key material  the content of a key slot: the volume key split into stripes that are useless one by one.
digest        tells whether a volume key is the right one.
segment       where the data is, and how it is encrypted.

af          the anti-forensic splitter: a key as stripes of which none may miss
filter      the filter
formatting  makes a volume, and makes its data unreadable
header1     the header of LUKS1
header2     the binary header of LUKS2
kdf         from a passphrase to a key: argon2id, argon2i, PBKDF2
key         where a passphrase comes from
keyslots    the volume key, encrypted with a passphrase
metadata    the JSON metadata of LUKS2
portable    AES-XTS by the package cryptography; many times slower
secret      locked memory for keys
unlock      reads headers and key slots
volume      what a header says, of either version
xts         AES-XTS by OpenSSL
"""

from tcmu_runner.filters.luks.filter import Luks

__all__ = ["Luks"]
