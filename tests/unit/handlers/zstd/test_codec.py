from __future__ import annotations

import errno
import resource
from random import Random
from typing import cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.handlers.zstd.codec import Codec

SIZE = 4096


@given(st.binary(min_size=1, max_size=64), st.integers(1, 19))
def test_there_and_back(seed: bytes, level: int) -> None:
    data = (seed * SIZE)[:SIZE]
    codec = Codec(SIZE, level)
    frame = codec.pack(data)
    assert (frame is None) is (not any(data))
    assert codec.unpack(0, frame) == data


@given(st.integers(0, 1 << 20), st.integers(0, 7))
def test_no_damaged_bit_goes_unnoticed(at: int, bit: int) -> None:
    data = Random(1).randbytes(SIZE // 2) + bytes(SIZE // 2)
    codec = Codec(SIZE, 1)
    frame = codec.pack(data)
    assert frame is not None
    damaged = bytearray(frame)
    damaged[at % len(frame)] ^= 1 << bit
    try:
        found = codec.unpack(7, bytes(damaged))
    except OSError as error:
        assert error.errno == errno.EIO
        assert "chunk 7" in str(error)
    else:
        assert found == data  # a bit that means nothing


def test_a_frame_of_another_length_is_refused() -> None:
    frame = Codec(2 * SIZE, 1).pack(b"x" * 2 * SIZE)
    with pytest.raises(OSError, match="chunk 1"):
        Codec(SIZE, 1).unpack(1, frame)
    frame = Codec(512, 1).pack(b"x" * 512)
    with pytest.raises(OSError, match="chunk 1 has 512 bytes"):
        Codec(SIZE, 1).unpack(1, frame)


def test_a_frame_is_refused_by_its_head_before_it_takes_memory() -> None:
    """32 KiB of an image became 1 GiB of memory."""
    mib = bytes(1 << 20)
    packer = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    bomb = b"".join(packer.compress(mib) for _ in range(1 << 10)) + packer.flush()
    assert len(bomb) < 1 << 16
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match="chunk 1 has 1073741824 bytes"):
        Codec(SIZE, 1).unpack(1, bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


def test_a_frame_that_does_not_say_its_length_is_none_of_ours() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * SIZE)
    with pytest.raises(OSError, match="chunk 1 does not say"):
        Codec(SIZE, 1).unpack(1, frame)


@pytest.mark.parametrize("value", ["text", 7, 1.5])
def test_a_value_that_is_no_frame_at_all(value: object) -> None:
    with pytest.raises(OSError, match="chunk 1 is damaged"):
        Codec(SIZE, 1).unpack(1, cast("bytes", value))


@pytest.mark.parametrize("size", [4096 << shift for shift in range(9)])
@pytest.mark.parametrize("level", [1, 3, 9, 19])
def test_the_heads_of_our_own_frames_are_right(size: int, level: int) -> None:
    """Of each size of a chunk."""
    data = Random(size).randbytes(size // 2) + bytes(size // 2)
    codec = Codec(size, level)
    assert codec.unpack(0, codec.pack(data)) == data
