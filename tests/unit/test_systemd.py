import os
import socket
from pathlib import Path

import pytest

from tcmu_runner.systemd import ServiceManager


def test_what_systemd_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service = ServiceManager()
        service.ready("2 devices")
        service.ping()
        service.stopping()
        heard = [manager.recv(100) for _ in range(3)]
    assert heard == [
        b"READY=1\nSTATUS=2 devices",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=waiting for the commands under way",
    ]


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0tcmu-test-notify")
        ServiceManager("@tcmu-test-notify").ping()
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify"])
def test_nobody_has_to_listen(address: str) -> None:
    ServiceManager(address).ready("")


@pytest.mark.parametrize(
    ("microseconds", "whose", "seconds"),
    [
        ("30000000", str(os.getpid()), 30.0),
        ("30000000", None, 30.0),
        ("30000000", str(os.getppid()), 0.0),
        (None, str(os.getpid()), 0.0),
        ("soon", None, 0.0),
    ],
    ids=["ours", "anybody's", "another's", "none", "unreadable"],
)
def test_who_waits_for_signs_of_life(
    microseconds: str | None, whose: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", whose)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert ServiceManager("").watchdog_seconds == seconds
