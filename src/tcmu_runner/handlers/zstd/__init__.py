"""`zstd`: a thin disk with compressed content, in one SQLite database.

chunk: a run of bytes of the disk, compressed as a whole; a chunk that is not stored reads as zeroes.
commit: a transaction: its changes are stored together or not at all, and survive the process's death.

codec    chunks to zstd frames, and back
handler  the handler
store    chunks in an SQLite database
"""

from tcmu_runner.handlers.zstd.handler import ZstdHandler

__all__ = ["ZstdHandler"]
