"""Notifications to systemd (sd_notify(3)); without systemd they do nothing."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class ServiceManager:
    """The service manager that started us with Type=notify. Methods neither block nor raise.

    watchdog_seconds: seconds without `ping` after which it restarts us; 0: never (sd_watchdog_enabled(3)).
    """

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds()

    def ready(self, status: str) -> None:
        """Devices can be made from now on. status: the text in `systemctl status`."""
        self._say(f"READY=1\nSTATUS={status}")

    def ping(self) -> None:
        """Call more often than every `watchdog_seconds` / 2, else systemd restarts us."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1\nSTATUS=waiting for the commands under way")

    def _say(self, text: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.setblocking(False)
                line.sendto(text.encode(), self._address)


def _watchdog_seconds() -> float:
    microseconds, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if whose not in (None, str(os.getpid())) or not microseconds.isdecimal():
        return 0.0
    return int(microseconds) / 1e6
