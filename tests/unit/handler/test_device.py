"""What a handler knows of its LUN, and what it tells the engine."""

from __future__ import annotations

import errno
import logging

import pytest

from tcmu_runner.handler import Device
from tcmu_runner.handler.device import Origin, without_hba


def test_the_name_without_the_hba() -> None:
    assert without_hba("user_12/vol0") == "vol0"
    assert without_hba("vol/user_0/x") == "vol/user_0/x"


def test_the_log_names_the_device(caplog: pytest.LogCaptureFixture) -> None:
    Device("user_0/vol0", 4096).log.warning("slow: %d s", 3)
    assert caplog.messages == ["user_0/vol0: slow: 3 s"]
    caplog.clear()


@pytest.mark.parametrize("origin", [Origin.RESTORED, Origin.RUNNING])
def test_a_lun_with_data_gets_no_empty_storage(origin: Origin) -> None:
    device = Device("user_0/vol0", 4096, origin=origin)
    with pytest.raises(OSError, match="is missing, and user_0/vol0 is no new LUN: ") as caught:
        device.missing("a.img", "touch it")
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value).endswith(": touch it")


def test_a_new_lun_gets_a_storage_and_one_that_was_removed_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Device("new", 4096).missing("a.img", "touch it")
    assert not caplog.messages
    Device("again", 4096, origin=Origin.AGAIN).missing("a.img", "touch it")
    assert caplog.messages == ["again: a.img, with which it was served before, is missing: made anew, empty"]
    caplog.clear()


def test_events_go_to_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []
    losses: list[OSError] = []
    device = Device("user_0/vol0", 4096, on_resized=sizes.append, on_write_lost=losses.append)
    error = OSError(errno.EIO, "broken")
    device.resized(8192)
    device.write_lost(error)
    assert (sizes, losses) == ([8192], [error])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "data that was written before is lost" in caplog.messages[0]
    caplog.clear()


def test_without_an_engine_events_only_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    device = Device("user_0/vol0", 4096)
    device.resized(8192)
    device.lost_connection()
    device.lost_lock()
    assert [text.split(";")[0] for text in caplog.messages] == [
        "user_0/vol0: lost the connection to its storage",
        "user_0/vol0: lost the lock on its storage to another host",
    ]
    caplog.clear()
