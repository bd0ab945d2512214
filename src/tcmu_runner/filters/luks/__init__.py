"""`luks`: LUKS volumes, as cryptsetup makes and opens them, under a LUN.

volume key    what the data is encrypted with (AES-XTS).
key slot      the volume key once more, encrypted with what is derived from one passphrase or key file.
key material  the content of a key slot: the volume key split into stripes that are useless one by one.
digest        tells whether a volume key is the right one.
segment       where the data is, and how it is encrypted.
"""

from tcmu_runner.filters.luks.filter import Luks

__all__ = ["Luks"]
