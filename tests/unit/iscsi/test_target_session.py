"""The order of commands: RFC 7143, 4.2.2.1; serial number arithmetic as RFC 1982."""

from __future__ import annotations

import pytest

from tcmu_runner.iscsi.target_session import QUEUE_DEPTH, TargetSession, Turn
from tcmu_runner.iscsi.text import Parameters


def session(cmd_sn: int) -> TargetSession:
    found = TargetSession(1, Parameters())
    found.begin(cmd_sn)
    return found


@pytest.mark.parametrize("first", [0, 1, 0xFFFFFFF0, 0xFFFFFFFF])
def test_in_order_around_the_end_of_the_numbers(first: int) -> None:
    found = session(first)
    for step in range(40):
        assert found.turn((first + step) & 0xFFFFFFFF) is Turn.NOW
    assert found.exp_cmd_sn == (first + 40) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("offset", "turn"),
    [
        (0, Turn.NOW),
        (1, Turn.LATER),
        (QUEUE_DEPTH - 1, Turn.LATER),
        (QUEUE_DEPTH, Turn.NEVER),
        (-1, Turn.NEVER),
    ],
)
def test_the_window(offset: int, turn: Turn) -> None:
    assert session(0xFFFFFFFE).turn((0xFFFFFFFE + offset) & 0xFFFFFFFF) is turn


def test_the_window_moves_only_with_answers() -> None:
    found = session(5)
    before = found.max_cmd_sn
    found.turn(5)
    assert found.max_cmd_sn == before
    found.answered(immediate=False)
    assert found.max_cmd_sn == before + 1
    found.immediate = 1
    found.answered(immediate=True)
    assert (found.max_cmd_sn, found.immediate) == (before + 1, 0)


def test_skipped_commands() -> None:
    """11.6.1: an aborted command that never came counts as received; what lies outside cannot come."""
    found = session(5)
    assert found.skip(6)
    assert found.turn(6) is Turn.NEVER
    assert not found.skip(4)
    assert not found.skip(5 + 2 * QUEUE_DEPTH)
    assert found.turn(5) is Turn.NOW
    assert found.release() is None
    assert found.exp_cmd_sn == 7


def test_transfer_tags() -> None:
    found = session(1)
    found._next_transfer_tag = 0xFFFFFFFD
    assert [found.transfer_tag() for _ in range(3)] == [0xFFFFFFFE, 0, 1]  # never ffffffffh, which is none
