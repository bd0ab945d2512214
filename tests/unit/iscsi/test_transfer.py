"""Data-Out and Data-In, without a connection: RFC 7143, 4.2.5.2, 11.7, 11.8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.iscsi.requests import DataOut
from tcmu_runner.iscsi.text import Parameters
from tcmu_runner.iscsi.transfer import (
    DIGEST_ERROR,
    INCORRECT_AMOUNT,
    UNEXPECTED_DATA,
    Gathering,
    segments,
)

NO_TAG = 0xFFFFFFFF
PARAMETERS = Parameters(initial_r2t=False, first_burst=1024, max_burst=2048)


def data_out(tag: int, number: int, offset: int, *, final: bool) -> DataOut:
    return DataOut(5, 0x80 if final else 0, 0, bytes(8), 1, tag, 0, number, offset)


def take(
    gathering: Gathering, tag: int, number: int, offset: int, data: bytes, *, final: bool = True
) -> None:
    gathering.accept(data_out(tag, number, offset, final=final), memoryview(data), intact=True)


def test_immediate_data_that_is_all_is_only_borrowed() -> None:
    gathering, data = Gathering(512, PARAMETERS), memoryview(bytes(512))
    gathering.begin(data, final=True)
    assert gathering.complete
    assert gathering.data is data
    assert gathering.ask(1) is None


def test_immediate_then_unsolicited_then_asked_for() -> None:
    gathering = Gathering(5000, PARAMETERS)
    gathering.begin(memoryview(b"i" * 512), final=False)
    assert gathering.ask(7) is None  # the unsolicited sequence is under way
    take(gathering, NO_TAG, 0, 512, b"u" * 512)
    assert gathering.ask(7) == (1024, 2048)
    take(gathering, 7, 0, 1024, b"1" * 1000, final=False)
    take(gathering, 7, 1, 2024, b"2" * 1048)
    assert gathering.ask(8) == (3072, 1928)
    take(gathering, 8, 0, 3072, b"3" * 1928)
    assert gathering.complete
    assert gathering.failure is None
    assert bytes(gathering.data) == b"i" * 512 + b"u" * 512 + b"1" * 1000 + b"2" * 1048 + b"3" * 1928


@pytest.mark.parametrize(
    ("parameters", "immediate", "final", "failure"),
    [
        (Parameters(immediate_data=False), 512, True, UNEXPECTED_DATA),  # 13.11
        (Parameters(first_burst=512), 1024, True, INCORRECT_AMOUNT),  # 13.14
        (Parameters(), 4096, True, INCORRECT_AMOUNT),  # more than the command expects to send
        (Parameters(initial_r2t=True), 512, False, UNEXPECTED_DATA),  # 13.10
    ],
)
def test_what_may_not_come_with_a_command(
    parameters: Parameters, immediate: int, final: bool, failure: object
) -> None:
    gathering = Gathering(2048, parameters)
    gathering.begin(memoryview(bytes(immediate)), final=final)
    assert gathering.failure == failure
    assert gathering.complete is final


@pytest.mark.parametrize(
    ("tag", "number", "offset", "length", "failure"),
    [
        (7, 1, 0, 512, DIGEST_ERROR),
        (8, 0, 0, 512, UNEXPECTED_DATA),
        (7, 0, 512, 512, INCORRECT_AMOUNT),
        (7, 0, 0, 4096, INCORRECT_AMOUNT),
        (7, 0, 0, 100, INCORRECT_AMOUNT),
    ],
)
def test_wrong_data_out(tag: int, number: int, offset: int, length: int, failure: object) -> None:
    gathering = Gathering(512, PARAMETERS)
    gathering.begin(memoryview(b""), final=True)
    assert gathering.ask(7) == (0, 512)
    take(gathering, tag, number, offset, bytes(length))
    assert (gathering.failure, gathering.complete) == (failure, True)


def test_data_with_a_wrong_digest() -> None:
    gathering = Gathering(512, PARAMETERS)
    gathering.begin(memoryview(b""), final=True)
    gathering.ask(7)
    gathering.accept(data_out(7, 0, 0, final=True), memoryview(bytes(512)), intact=False)
    assert gathering.failure == DIGEST_ERROR


def test_the_answer_waits_for_the_end_of_the_sequence() -> None:
    gathering = Gathering(1024, PARAMETERS)
    gathering.begin(memoryview(b""), final=True)
    gathering.ask(7)
    take(gathering, 7, 5, 0, bytes(512), final=False)
    assert gathering.failure == DIGEST_ERROR
    assert not gathering.complete
    take(gathering, 7, 1, 512, bytes(512))
    assert gathering.complete


@given(st.integers(1, 100000), st.integers(512, 20000), st.integers(512, 20000))
def test_segments_cover_everything_once(length: int, segment: int, burst: int) -> None:
    """No PDU above the limit, none across the end of a burst, F at each burst's end and at the last."""
    parts = list(segments(length, Parameters(send_segment=segment, max_burst=burst)))
    assert [start for start, _, _ in parts] == [0, *(end for _, end, _ in parts[:-1])]
    assert parts[-1][1] == length
    for start, end, ends_sequence in parts:
        assert 0 < end - start <= segment
        assert start // burst == (end - 1) // burst
        assert ends_sequence == (end % burst == 0 or end == length)
