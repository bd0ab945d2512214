from __future__ import annotations

import errno
from random import Random

import pytest
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
