"""Events of the kernel's TCMU devices in, replies out.

Two sockets: one is a member of the multicast group and only receives events, the other sends requests and
gets their answers, so that answers and events never mix.
"""

import errno
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tcmu_runner.kernel import genl
from tcmu_runner.kernel.genl import Event, EventKind, NetlinkError
from tcmu_runner.kernel.netlink_port import KernelPort, NetlinkRefused, Port, Requests

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0


class EventsLost(NetlinkError):  # noqa: N818 - says what happened
    """The kernel dropped events because they came faster than we read, or one was unreadable.

    events: those that did arrive; reply to them as usual, then scan sysfs. The kernel still waits for the
    reply to a lost ADDED; it removes a device despite a lost REMOVED, and fails a lost RECONFIG with ESRCH,
    unless another daemon got them. Shutting and opening `modules.NetlinkGate` ends every wait.
    """

    def __init__(self, events: list[Event], reason: str) -> None:
        super().__init__(f"netlink events were lost ({reason}): scan for devices")
        self.events = events


class TcmuNetlink:
    """The connection to the kernel's TCM-USER family.

    The constructor joins the multicast group, then switches waits for replies on or off. That switch is
    global and outlives us: call `set_features(False)` at a clean exit, and open with `replies=False` to clear
    it after a crash. Raises NetlinkRefused (errno ENOENT: module not loaded, EPERM: privilege missing).
    `replies_supported` is False on kernels before 4.13: there events never wait.

    `receive` is for one thread, which waits until `fileno` is readable; `reply` may be called on any thread.
    `receive` does not block; requests wait up to 5 s for the kernel's answer, which normally comes at once.
    """

    def __init__(self, *, replies: bool = True, port: Callable[[float], Port] = KernelPort) -> None:
        self.replies_supported = False
        self._lock = threading.Lock()
        # For each device_id the event that the kernel waits on; None once it is answered.
        self._unanswered: dict[int, Event | None] = {}
        with ExitStack() as undo:
            self._requests = Requests(port(_ANSWER_SECONDS))
            undo.callback(self._requests.close)
            self._events = port(0.0)
            undo.callback(self._events.close)
            self._start(replies)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor that is readable when there are events."""
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def set_features(self, replies: bool) -> None:
        """Has the kernel wait for replies to events, or not; on all devices."""
        try:
            self._requests.ask(
                "SET_FEATURES", lambda seq: genl.encode_set_features(self._family, replies, seq)
            )
        except NetlinkRefused as refused:
            if refused.errno != errno.EOPNOTSUPP:
                raise
            self.replies_supported = False
        else:
            self.replies_supported = True

    def receive(self) -> list[Event]:
        """All events that have arrived, oldest first; empty if none. Raises EventsLost.

        Reads until the socket is empty, also after an overrun: only then does the kernel deliver to it again
        (netlink_rcv_wake).
        """
        events: list[Event] = []
        lost = ""
        while True:
            try:
                datagram, sender = self._events.receive()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = "receive buffer overrun"
                continue
            if sender != 0:
                _log.debug("dropped a netlink message that process port %d sent, not the kernel", sender)
                continue
            lost = self._decode(datagram, events) or lost
        if lost:
            raise EventsLost(events, lost)
        return events

    def reply(self, event: Event, status: int) -> bool:
        """Ends the kernel's wait for `event`. status: 0 accepts, a negative errno refuses; else ValueError.

        False if the kernel no longer waits for it: we or another daemon have replied, the wait was reset, or
        a later event of the device has arrived. We do not even send a stale reply: if it met the wait for an
        event of another kind, that wait would never end. A made-up event (of a device found by a scan) is
        sent if no event of that device has been seen.
        """
        if event.device_id is None:
            return False
        genl.encode_reply(self._family, event.kind, event.device_id, status, 0)  # ValueError before a change
        with self._lock:
            if self._unanswered.get(event.device_id, event) is not event:
                _log.debug("%s: reply to a past %s event not sent", event.device, event.kind.name)
                return False
            self._settle(event, event.device_id, status)
        return self._send_reply(event, event.device_id, status)

    def _start(self, replies: bool) -> None:
        name = f"netlink family {genl.FAMILY}"
        answers = self._requests.ask(name, lambda seq: genl.encode_get_family(genl.FAMILY, seq))
        if not answers:
            raise NetlinkError(f"{name}: the kernel acknowledged the question without an answer")
        family = genl.decode_family(answers[0])
        if genl.GROUP not in family.groups:
            raise NetlinkError(f"{name}: the kernel offers no multicast group {genl.GROUP!r}")
        self._family = family.id
        self._events.join(family.groups[genl.GROUP])
        self.set_features(replies)

    def _settle(self, event: Event, device_id: int, status: int) -> None:
        gone = event.kind is EventKind.REMOVED or (event.kind is EventKind.ADDED and status != 0)
        if gone:
            self._unanswered.pop(device_id, None)
        else:
            self._unanswered[device_id] = None

    def _send_reply(self, event: Event, device_id: int, status: int) -> bool:
        what = f"{event.device}: reply to {event.kind.name}"
        try:
            self._requests.ask(
                what, lambda seq: genl.encode_reply(self._family, event.kind, device_id, status, seq)
            )
        except NetlinkRefused as refused:
            if refused.errno != errno.ENODEV:
                raise
            _log.debug("%s came when the kernel did not wait for one", what)
            return False
        return True

    def _decode(self, datagram: bytes, events: list[Event]) -> str:
        """Appends the datagram's events to `events`; returns why a part of it cannot be decoded, or ""."""
        try:
            for message in genl.split(datagram):
                if message.type == self._family:
                    self._note(event := genl.decode_event(message))
                    events.append(event)
        except NetlinkError as error:
            return str(error)
        return ""

    def _note(self, event: Event) -> None:
        if event.device_id is not None:
            with self._lock:
                self._unanswered[event.device_id] = event
