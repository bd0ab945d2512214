"""Faults on demand: the expected sense bytes are those the rule asks for, as SPC-5 lays them out."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError, ScsiError
from tcmu_runner.scsi.sense import ScsiStatusError
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

READ_ERROR = {"on": "read", "offset": 4096, "length": 512, "sense": "3/11/00"}


def faulty(*rules: dict[str, object], seed: int = 0) -> Stacked:
    return open_stack("ram/", ("error", {"rules": list(rules), "seed": seed}))


def read(stack: Stacked, offset: int, length: int = 512) -> bytes:
    into = bytearray(length)
    stack.read([memoryview(into)], offset)
    return bytes(into)


def write(stack: Stacked, offset: int, data: bytes) -> None:
    stack.write([memoryview(bytearray(data))], offset)


def ending(call: Callable[[], object]) -> object:
    """What an operation ends in, in few words."""
    try:
        call()
    except ScsiError as error:
        return error.sense.key, error.sense.asc, error.sense.ascq
    except ScsiStatusError as error:
        return int(error.status)
    except OSError as error:
        return error.errno
    return None


def test_without_rules_it_keeps_the_contract() -> None:
    report = check_filter("ram/", ("error", {}), size=KIT_SIZE)
    assert report.ok, str(report)


def test_what_touches_the_range_fails_and_nothing_else_does() -> None:
    stack = faulty(READ_ERROR)
    assert ending(lambda: read(stack, 4096)) == (3, 0x11, 0)
    assert ending(lambda: read(stack, 3584, 1024)) == (3, 0x11, 0)
    assert ending(lambda: read(stack, 3584)) is None
    assert ending(lambda: read(stack, 4608)) is None
    assert ending(lambda: write(stack, 4096, bytes(512))) is None


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"sense": "4/44/00"}, (4, 0x44, 0)),
        ({"status": "busy"}, 0x08),  # SAM-5 table 33
        ({"status": "task-set-full"}, 0x28),
        ({"errno": "ENOSPC"}, errno.ENOSPC),
    ],
)
def test_every_way_to_fail(fault: dict[str, object], told: object) -> None:
    stack = faulty({"on": "write", **fault})
    assert ending(lambda: write(stack, 0, b"x" * 512)) == told
    assert read(stack, 0) == bytes(512)


def test_a_torn_write_leaves_its_beginning() -> None:
    stack = faulty({"on": "write", "errno": "EIO", "done": 512, "times": 1})
    assert ending(lambda: write(stack, 0, b"x" * 1536)) == errno.EIO
    assert read(stack, 0, 1536) == b"x" * 512 + bytes(1024)


def test_a_lost_write_is_said_to_be_done() -> None:
    stack = faulty({"on": "write flush", "lose": True, "times": 1})
    write(stack, 0, b"x" * 512)
    assert read(stack, 0) == bytes(512)
    write(stack, 0, b"x" * 512)
    assert read(stack, 0) == b"x" * 512


def test_from_the_nth_on_so_many_times() -> None:
    stack = faulty({"on": "read", "nth": 3, "times": 2, "status": "busy"})
    assert [ending(lambda: read(stack, 0)) for _ in range(6)] == [None, None, 8, 8, None, None]


def test_after_another_rule() -> None:
    stack = faulty(
        {"name": "pulled", "on": "flush", "errno": "EIO", "times": 1},
        {"on": "any", "after": "pulled", "sense": "2/3a/00"},
    )
    assert ending(lambda: read(stack, 0)) is None
    assert ending(stack.flush) == errno.EIO
    assert ending(lambda: read(stack, 0)) == (2, 0x3A, 0)


@given(seed=st.integers(0, 1 << 32), probability=st.floats(0.05, 0.95))
def test_the_same_seed_meets_the_same_faults(seed: int, probability: float) -> None:
    rule = {"on": "read", "probability": probability, "status": "busy"}
    runs = []
    for _ in range(2):
        stack = faulty(rule, seed=seed)
        runs.append([ending(lambda: read(stack, 0)) for _ in range(64)])  # noqa: B023 - used at once
        stack.close()
    assert runs[0] == runs[1]


def test_rules_in_a_file_count_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "faults.toml"
    stack = open_stack("ram/", ("error", {"rules": [READ_ERROR], "file": str(path)}))
    assert ending(lambda: read(stack, 4096)) == (3, 0x11, 0)
    path.write_text('rules = [{ on = "read", status = "busy" }]')
    assert ending(lambda: read(stack, 0)) == 8
    path.write_text('rules = [{ on = "read", sense = "what" }]')
    assert ending(lambda: read(stack, 0)) == 8
    assert "rule 1: sense = 'what': write KEY/ASC/ASCQ" in caplog.text
    path.write_text("rules = []")
    assert ending(lambda: read(stack, 4096)) is None
    caplog.clear()


def test_a_fault_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ending(lambda: read(faulty(READ_ERROR), 4096))
    assert "conformance: read of 512 bytes at 4096: fault 3/11/00" in caplog.text


@pytest.mark.parametrize(
    ("rule", "remedy"),
    [
        ({}, "write one of sense, status, errno or lose = true, or a delay"),
        ({"on": "reed", "status": "busy"}, "there are any, command"),
        ({"sense": "3/11"}, "rule 1: sense = '3/11': write KEY/ASC/ASCQ"),
        ({"sense": "33/11/00"}, "a sense key has one digit"),
        ({"status": "good"}, "there are aca-active, busy"),
        ({"errno": "EWHAT"}, 'write a name like "EIO"'),
        ({"sense": "3/11/00", "status": "busy"}, "write one of"),
        ({"probability": 1.5, "status": "busy"}, "from 0.0 to 1.0"),
        ({"on": "read", "lose": True}, "only of flush, unmap, write, write_zeroes"),
        ({"done": 512, "delay": 1}, "done needs an error to follow"),
        ({"done": 100, "status": "busy"}, "write whole blocks, of 512 bytes each"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        faulty(rule)


def test_rules_are_changed_while_it_is_open() -> None:
    stack = faulty(READ_ERROR)
    assert ending(lambda: read(stack, 4096)) is not None
    told = stack.stack.control("error", {})
    assert told == {"rules": [READ_ERROR], "met": [1], "applied": [1]}
    with pytest.raises(ConfigError, match=r"rule 1: on = 'raed'"):
        stack.stack.control("error", {"rules": [{"on": "raed", "errno": "EIO"}]})
    with pytest.raises(ConfigError, match="no option 'seed'; only rules"):
        stack.stack.control("error", {"seed": 1})
    assert ending(lambda: read(stack, 4096)) is not None
    told = stack.stack.control("error", {"rules": [{"on": "write", "errno": "ENOSPC", "times": 1}]})
    assert told == {
        "rules": [{"on": "write", "errno": "ENOSPC", "times": 1}],
        "met": [0],
        "applied": [0],
    }
    assert ending(lambda: read(stack, 4096)) is None
    assert ending(lambda: write(stack, 0, bytes(512))) == errno.ENOSPC
    assert ending(lambda: write(stack, 0, bytes(512))) is None
    assert stack.stack.control("error", {"rules": []}) == {"rules": [], "met": [], "applied": []}


def test_layers_are_told_apart() -> None:
    stack = open_stack("ram/", ("error", {"rules": [READ_ERROR]}), ("log", {}), ("error", {})).stack
    assert stack.control("error", {})["rules"] == [READ_ERROR]
    assert stack.control("error:2", {})["rules"] == []
    with pytest.raises(
        ConfigError, match="no layer 'fault'; there are, topmost first: error, log, error:2, ram"
    ):
        stack.control("fault", {})
    with pytest.raises(ConfigError, match="filter log has nothing that can be changed"):
        stack.control("log", {})
    with pytest.raises(ConfigError, match="handler ram has nothing that can be changed"):
        stack.control("ram", {})
