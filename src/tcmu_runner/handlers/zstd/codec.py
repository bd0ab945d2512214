"""Chunks to zstd frames and back. A frame carries a checksum of what was compressed."""

from __future__ import annotations

import errno
import threading
from typing import Any

from tcmu_runner.errors import ConfigError

try:
    import zstandard
except ImportError:  # Codec.__init__ reports it; parsing options works without
    zstandard = None  # type: ignore[assignment]


class Codec:
    """size: bytes of a chunk. Methods may be called on any thread: each thread has zstd contexts of its own,
    which work without the interpreter lock."""

    def __init__(self, size: int, level: int) -> None:
        if zstandard is None:
            raise ConfigError("zstd needs the package zstandard (Debian: python3-zstandard): install it")
        self._size = size
        self._level = level
        self._zeroes = bytes(size)
        self._contexts = threading.local()

    def pack(self, data: bytes) -> bytes | None:
        """None for a chunk of zeroes, which is not stored."""
        if data == self._zeroes:
            return None
        frame: bytes = self._own("packer", self._packer).compress(data)
        return frame

    def unpack(self, number: int, frame: bytes | None) -> bytes:
        """Raises OSError EIO for a damaged frame. frame None: zeroes."""
        if frame is None:
            return self._zeroes
        try:
            self._check(number, frame)
            data: bytes = self._own("unpacker", zstandard.ZstdDecompressor).decompress(frame, self._size)
        except (zstandard.ZstdError, TypeError) as error:  # TypeError: SQLite keeps values of any type
            raise OSError(errno.EIO, f"chunk {number} is damaged: {error}") from None
        return data

    def _check(self, number: int, frame: bytes) -> None:
        """Call before decompressing, which allocates as many bytes as the frame's header names. `pack` writes
        the content size into each header (RFC 8878, 3.1.1.1.4), and uses no larger window."""
        head = zstandard.get_frame_parameters(frame)
        if head.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise OSError(errno.EIO, f"chunk {number} does not say how many bytes it has")
        if head.content_size != self._size or head.window_size > self._size:
            raise OSError(
                errno.EIO, f"chunk {number} has {head.content_size} bytes, window of {head.window_size}"
            )

    def _packer(self) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(level=self._level, write_checksum=True)

    def _own(self, name: str, make: Any) -> Any:
        found = getattr(self._contexts, name, None)
        if found is None:
            found = make()
            setattr(self._contexts, name, found)
        return found
