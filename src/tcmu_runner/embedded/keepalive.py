"""Whether an initiator is still there: pings after silence, and when to give it up.

A session that nobody ends keeps its reservation (RESERVE) and its tasks. Where an initiator's machine is
gone, TCP itself gives up an idle connection after two hours. RFC 7143, 11.19 has a ping (NOP-In) for this and
leaves the times open. These are LIO's: after 15 seconds of silence a ping, 30 seconds later the end.
"""

from __future__ import annotations

import socket
from enum import Enum, auto

LOOK_SECONDS = 5.0  # from one look at a connection to the next
PING_AFTER, GIVE_UP_AFTER = 3, 9  # looks without a sign of life


class Verdict(Enum):
    """What a look is followed by."""

    NOTHING = auto()
    PING = auto()
    GIVE_UP = auto()


class Silence:
    """Counts the looks since the last sign of life."""

    def __init__(self) -> None:
        self._looks = 0

    def look(self, *, alive: bool) -> Verdict:
        """alive: something has come, or has gone out, since the last look."""
        self._looks = 0 if alive else self._looks + 1
        if self._looks >= GIVE_UP_AFTER:
            return Verdict.GIVE_UP
        return Verdict.PING if self._looks == PING_AFTER else Verdict.NOTHING


def limit_silence(connected: socket.socket) -> None:
    """Has the kernel end a connection when the other machine is gone. No ping of ours finds that out before a
    login, in a discovery session, or while bytes wait for a close."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 15),  # seconds
        (socket.TCP_KEEPINTVL, 10),
        (socket.TCP_KEEPCNT, 3),
        (socket.TCP_USER_TIMEOUT, 45000),  # milliseconds without an acknowledgement
    ):
        connected.setsockopt(socket.IPPROTO_TCP, option, value)
