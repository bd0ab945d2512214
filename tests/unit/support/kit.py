"""How the unit tests run the conformance kit."""

KIT_SIZE = 2 << 20
"""Bytes of the disk: 512 blocks of 4096, the fewest that the kit takes. It writes all of it several times."""
