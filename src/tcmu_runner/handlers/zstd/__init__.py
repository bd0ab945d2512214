"""`zstd`: a thin disk whose content is compressed, in one SQLite database.

chunk     a run of bytes of the disk that is compressed as a whole; where there is none, the disk is zeroes.
commit    changes that are in the database together or not at all, and outlive the process from then on.

codec    chunks to zstd frames, and back
handler  the handler
store    chunks in an SQLite database
"""

from tcmu_runner.handlers.zstd.handler import ZstdHandler

__all__ = ["ZstdHandler"]
