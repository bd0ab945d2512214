"""Events of the kernel's TCMU devices in, replies out.

Two sockets: one is a member of the multicast group and only receives events, the other asks and is answered,
so that answers and events never mix.
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

    `events` are those that did arrive; they have to be answered as ever. Then the caller scans sysfs. The
    kernel waits for the reply to a lost ADDED; a lost REMOVED goes unannounced and a lost RECONFIG fails with
    ESRCH, unless another daemon heard them. A pass through `modules.NetlinkGate` ends every wait.
    """

    def __init__(self, events: list[Event], reason: str) -> None:
        super().__init__(f"netlink events were lost ({reason}): scan for devices")
        self.events = events


class TcmuNetlink:
    """The connection to the kernel's TCM-USER family.

    Opening joins the group first and then tells the kernel whether events wait for replies. That switch is
    global and outlives us: call `set_features(False)` at a clean exit, and open with `replies=False` to clear
    it after a crash. Raises NetlinkRefused (errno ENOENT: module not loaded, EPERM: privilege missing).
    `replies_supported` is False on kernels before 4.13, whose events never wait.

    `receive` belongs to one thread, which waits for `fileno` to be readable; `reply` is for any thread.
    Neither blocks.
    """

    def __init__(self, *, replies: bool = True, port: Callable[[float], Port] = KernelPort) -> None:
        self.replies_supported = False
        self._lock = threading.Lock()
        # Per device the event the kernel waits for now; None once that is answered.
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
        """Have the events of all devices wait for a reply, or not."""
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

        It reads until there is nothing left, also after an overrun: only then does the kernel deliver to the
        socket again (netlink_rcv_wake).
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
        """End the kernel's wait for `event`: 0 accepts, a negative errno refuses. Anything else: ValueError.

        False if the kernel no longer waits for this event: it was answered, by us or another daemon, its wait
        was reset, or a later event of the device shows it to be over. A stale reply is not even sent, since
        one that meets the wait for another kind of event would leave that wait without end. An event made up
        by the caller (device found by a scan) is sent if no event of that device has been seen.
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
        """Append the datagram's events; returns why something in it could not be read."""
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
