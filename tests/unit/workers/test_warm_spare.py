"""The rehearsal of a spare worker: it serves, and leaves nothing behind."""

import gc
import logging
import os
import tempfile
import threading
from pathlib import Path

import pytest

from tcmu_runner.ring.producer import Producer, Ticket
from tcmu_runner.workers import warm_spare


def test_commands_are_served_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tickets = []
    submit = Producer.submit

    def remember(producer: Producer, cdb: bytes, data_out: bytes = b"", data_in_length: int = 0) -> Ticket:
        tickets.append(submit(producer, cdb, data_out, data_in_length))
        return tickets[-1]

    monkeypatch.setattr(Producer, "submit", remember)
    gc.collect()  # what other tests have left
    before, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())  # noqa: PTH208
    warm_spare.warm_up()
    assert [ticket.status for ticket in tickets] == [0, 0, 0]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert not list(tmp_path.iterdir())
    assert set(threading.enumerate()) == threads
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_place_for_it_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    warm_spare.warm_up()
    assert "no warm-up for spare workers" in caplog.text
    caplog.clear()
