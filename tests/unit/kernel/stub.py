"""The kernel's side of the TCM-USER netlink family: `StubKernel().port` goes where KernelPort does.

As in the kernel, a request is worked on inside the sender's `send`, and nothing here has a thread or a clock.
Messages are built and read with plain struct calls, independent of the codec under test. What would hang or
break a real kernel is collected in `violations`; `check()` at the end of a test asserts there was none.
Followed: tcmu_genl_set_features, tcmu_genl_cmd_done and tcmu_netlink_event_send of Linux 6.1
drivers/target/target_core_user.c.
"""

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

FAMILY_ID, GROUP_ID = 0x1C, 7
ADDED, REMOVED, RECONFIG, SET_FEATURES = 1, 2, 3, 7


@dataclass
class Wait:
    """An administrator's command: asleep in the kernel until `status` is there, or lost for good."""

    command: int
    minor: int
    device: str
    device_id: int
    status: int | None = None
    lost: bool = False
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    def wake(self, status: int) -> None:
        self.status = status
        self._done.set()

    def result(self, timeout: float = 10.0) -> int:
        """For tests with threads: the status, once it is there."""
        if not self._done.wait(timeout) or self.status is None:
            raise AssertionError(f"{self} still waits")
        return self.status


class StubKernel:
    """Settings are plain attributes, to be changed at any time.

    `acknowledgements` is how many the kernel sends per request: 0 loses them, 2 repeats them; with `late`
    each comes only with the next request. `overrun` makes it drop events as a full receive buffer does.
    """

    def __init__(self) -> None:
        self.module_loaded = True
        self.privileged = True
        self.knows_features = True
        self.acknowledgements = 1
        self.late = False
        self.overrun = False
        self.blocked = False
        self.replies_wanted = False
        self.waits: dict[int, Wait] = {}
        self.violations: list[str] = []
        self._ports: list[StubPort] = []
        self._ids = iter(range(1, 1 << 16))
        self._held: list[tuple[StubPort, bytes]] = []

    # -- what TcmuNetlink gets ------------------------------------------------------------------------

    def port(self, timeout: float) -> "StubPort":
        self._ports.append(port := StubPort(self, timeout))
        return port

    def forget(self, port: "StubPort") -> None:
        self._ports.remove(port)

    # -- what an administrator does -------------------------------------------------------------------

    def add(self, minor: int, device: str) -> Wait:
        """`echo 1 > enable`."""
        return self._event(Wait(ADDED, minor, device, next(self._ids)))

    def remove(self, added: Wait) -> Wait:
        """`rmdir` of the backstore."""
        return self._event(Wait(REMOVED, added.minor, added.device, added.device_id))

    def reconfigure(
        self,
        added: Wait,
        *,
        config: bytes | None = None,
        size: int | None = None,
        write_cache: int | None = None,
    ) -> Wait:
        """A write to attrib/dev_config, dev_size or emulate_write_cache; with none, to one yet unknown."""
        change = b""
        if config is not None:
            change = attribute(4, config + b"\0")
        elif size is not None:
            change = attribute(5, struct.pack("=Q", size))
        elif write_cache is not None:
            change = attribute(6, struct.pack("=B", write_cache))
        if not self._members():
            raise OSError(errno.ESRCH, "nobody listens")
        return self._event(Wait(RECONFIG, added.minor, added.device, added.device_id), change)

    def reset_netlink(self) -> None:
        """`echo 1 > reset_netlink`, which needs block_netlink first."""
        if not self.blocked and self.waits:
            raise OSError(errno.EBUSY, "block_netlink is not set")
        for wait in self.waits.values():
            wait.wake(-errno.EINTR)
        self.waits.clear()

    def deliver(self, datagram: bytes, sender: int = 0) -> None:
        """Any bytes, from the kernel or from the process whose port id is `sender`, to all members."""
        for port in self._members():
            port.queue(datagram, sender)

    def release_late(self) -> None:
        """Deliver the acknowledgements held back by `late`."""
        held, self._held = self._held, []
        for port, datagram in held:
            port.queue(datagram)

    def check(self) -> None:
        assert not self.violations, self.violations

    # -- the kernel -----------------------------------------------------------------------------------

    def _members(self) -> list["StubPort"]:
        return [port for port in self._ports if port.joined]

    def _event(self, wait: Wait, change: bytes = b"") -> Wait:
        waits = self.replies_wanted
        if waits and self.blocked:
            raise OSError(errno.EAGAIN, "netlink is blocked")
        if waits and wait.device_id in self.waits:
            raise OSError(errno.EBUSY, "another command of this device waits")
        name = attribute(1, wait.device.encode("utf-8", "surrogateescape") + b"\0")
        ids = attribute(2, struct.pack("=I", wait.minor)) + attribute(8, struct.pack("=I", wait.device_id))
        event = message(FAMILY_ID, 0, 0, struct.pack("=BBH", wait.command, 2, 0) + name + ids + change)
        if waits:
            self.waits[wait.device_id] = wait
        else:
            wait.wake(0)
        for port in self._members():
            if self.overrun:
                port.queue(b"", error=errno.ENOBUFS)
            else:
                port.queue(event)
        return wait

    def receive(self, port: "StubPort", datagram: bytes) -> None:
        """One request; its answer and acknowledgement are queued on `port`."""
        self.release_late()
        length, kind, flags, seq, _port_id = struct.unpack_from("=IHHII", datagram)
        assert length == len(datagram), "one request a datagram"
        code = 0
        if flags & 1:  # NLM_F_REQUEST: without it netlink_rcv_skb acts on nothing
            command, _version, _zero = struct.unpack_from("=BBH", datagram, 16)
            attributes = dict(parse(datagram[20:]))
            if kind == 0x10:
                code = self._get_family(port, seq, command, attributes)
            else:
                code = self._command(kind, command, attributes)
        if code or flags & 4:
            answer = message(2, 0, seq, struct.pack("=i", code) + datagram[:16])
            for _ in range(self.acknowledgements):
                self._held.append((port, answer))
        if not self.late:
            self.release_late()

    def _get_family(self, port: "StubPort", seq: int, command: int, attributes: dict[int, bytes]) -> int:
        assert command == 3
        if not self.module_loaded or attributes[2] != b"TCM-USER\0":
            return -errno.ENOENT
        group = attribute(1, b"config\0") + attribute(2, struct.pack("=I", GROUP_ID))
        body = (
            struct.pack("=BBH", 1, 2, 0)
            + attribute(2, b"TCM-USER\0")
            + attribute(1, struct.pack("=H", FAMILY_ID))
            + attribute(7, attribute(1, group))
        )
        port.queue(message(0x10, 0, seq, body))
        return 0

    def _command(self, kind: int, command: int, attributes: dict[int, bytes]) -> int:
        assert kind == FAMILY_ID
        if not self.privileged:
            return -errno.EPERM
        if command == SET_FEATURES:
            if not self.knows_features:
                return -errno.EOPNOTSUPP
            if not self._members():
                self.violations.append("SET_FEATURES before joining the group: an event could go unheard")
            self.replies_wanted = attributes[9] != b"\0"
            return 0
        return self._done(command, attributes)

    def _done(self, command: int, attributes: dict[int, bytes]) -> int:
        if 7 not in attributes or 8 not in attributes:
            return -errno.EINVAL
        (status,), (device_id,) = struct.unpack("=i", attributes[7]), struct.unpack("=I", attributes[8])
        wait = self.waits.pop(device_id, None)
        if wait is None:
            return -errno.ENODEV
        if command != wait.command + 3:
            wait.lost = True
            self.violations.append(f"command {command} in reply to {wait}, which now waits for ever")
            return -errno.EINVAL
        if status > 0:
            self.violations.append(f"status {status} in reply to {wait} is a success to the kernel")
        wait.wake(status)
        return 0


class StubPort:
    """A socketpair whose datagrams carry, in front, the errno to fail with and the sender's port id."""

    def __init__(self, kernel: StubKernel, timeout: float) -> None:
        self.joined = False
        self._kernel = kernel
        self._blocking = timeout > 0
        self._ours, self._kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._kernels.setblocking(False)

    def queue(self, datagram: bytes, sender: int = 0, error: int = 0) -> None:
        self._kernels.send(struct.pack("=II", error, sender) + datagram)

    def join(self, group: int) -> None:
        assert group == GROUP_ID
        self.joined = True

    def send(self, datagram: bytes) -> None:
        self._kernel.receive(self, datagram)

    def receive(self) -> tuple[bytes, int]:
        try:
            framed = self._ours.recv(1 << 16)
        except BlockingIOError:
            if self._blocking:  # nothing would come later either
                raise TimeoutError("timed out") from None
            raise
        error, sender = struct.unpack_from("=II", framed)
        if error:
            raise OSError(error, "as the kernel said")
        return framed[8:], sender

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        if self._ours.fileno() >= 0:
            self._kernel.forget(self)
        self._ours.close()
        self._kernels.close()


def message(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
