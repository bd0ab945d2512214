"""A target with its LUNs and portals in this process: `with serve(Disk("ram/", size)) as server: ...`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self
from uuid import uuid4

from tcmu_runner.embedded.keepalive import LOOK_SECONDS
from tcmu_runner.embedded.local import LocalLun
from tcmu_runner.embedded.portal import Portal
from tcmu_runner.embedded.target import Target
from tcmu_runner.engine.lun import Description, Lun
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.registry import Registry
from tcmu_runner.iscsi.chap import SECRET_LEAST, Credentials
from tcmu_runner.iscsi.login import Policy
from tcmu_runner.iscsi.transfer import MAX_TRANSFER
from tcmu_runner.scsi.unit import Identity, Limits

NAME = "iqn.2024-01.org.tcmu-runner:embedded"
START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Disk:
    """One LUN to be served. config: as in targetcli, `file//var/lib/disk.img`. size, block_size: bytes.

    physical_block_size: bytes, a power of two of logical blocks; by default one. serial: its unit serial
    number; by default a random one, so that initiators never take two servers' disks for one: give it where
    they should know the disk again. overrides: values in place of the default identity and limits.
    """

    config: str
    size: int
    block_size: int = 512
    read_only: bool = False
    removable: bool = False
    physical_block_size: int = 0
    serial: str = ""
    overrides: Overrides = field(default_factory=Overrides)


class Server:
    """Runs portals on a thread of its own, between `start` and `stop`; or use it in a `with` statement.

    Raises TcmuError or OSError where a LUN cannot be opened, or a portal cannot listen; nothing is left then.
    """

    def __init__(
        self,
        disks: Sequence[Disk],
        registry: Registry,
        *,
        name: str = NAME,
        host: str = "127.0.0.1",
        ports: Sequence[int] = (0,),
        credentials: Credentials | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """look_seconds: from one look at whether an initiator is still there to the next."""
        _check_secrets(credentials)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="iscsi portals", daemon=True)
        self.luns: list[LocalLun] = []
        self.portals: list[Portal] = []
        self.target = Target(name)
        try:
            for group, port in enumerate(ports, 1):
                policy = Policy({name}, group, credentials)
                self.portals.append(Portal(self.target, host, port, policy, look_seconds))
                self.target.portals.append(self.portals[-1])
            for number, disk in enumerate(disks):
                self.luns.append(open_disk(disk, registry, number))
        except BaseException:
            self.stop()
            raise
        for number, lun in enumerate(self.luns):
            self.target.add(number, lun)

    def url(self, lun: int = 0, portal: int = 0) -> str:
        """iscsi://HOST:PORT/NAME/LUN."""
        return self.portals[portal].url(lun)

    @property
    def commands(self) -> int:
        """How many commands the LUNs have had."""
        return sum(lun.commands for lun in self.luns)

    @property
    def sessions(self) -> int:
        """How many initiators are logged in."""
        return len(self.target.sessions)

    def start(self) -> None:
        self._thread.start()
        self.on_loop(self._open)

    def begin_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serves the LUNs on a loop of the caller's, without listening: for tests that make connections
        themselves."""
        for lun in self.luns:
            lun.start(loop, self.target.run)

    async def _open(self) -> None:
        self.begin_on(self._loop)
        for portal in self.portals:
            await portal.open()

    def on_loop(self, function: Callable[[], object]) -> None:
        """Runs a function, or what it returns for the loop to run, on the loop's thread, and waits for it."""
        done: Future[None] = Future()

        async def call() -> None:
            try:
                answer = function()
                if asyncio.iscoroutine(answer):
                    await answer
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(call()))
        done.result()

    def stop(self) -> None:
        """Ends connections, then LUNs; waits for commands that are with their handlers."""
        if self._thread.is_alive():
            self.on_loop(self._close_portals)
            for lun in self.luns:
                self.on_loop(lun.leave)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        else:
            self._close_portals()
            for lun in self.luns:
                lun.leave()
        for lun in self.luns:
            lun.stop()
        self._loop.close()

    def _close_portals(self) -> None:
        for portal in self.portals:
            portal.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _check_secrets(credentials: Credentials | None) -> None:
    if credentials is None:
        return
    if not credentials.users:
        raise ConfigError("credentials without a user: nobody could log in")
    for user, secret in [*credentials.users.items(), (credentials.name, credentials.secret)]:
        if (secret or user) and len(secret.encode()) < SECRET_LEAST:
            raise ConfigError(f"the secret of {user!r} is shorter than {SECRET_LEAST} bytes")
    if credentials.secret and credentials.secret in credentials.users.values():
        raise ConfigError(
            "the target's own secret is an initiator's, too: each needs its own (RFC 7143, 9.2.1)"
        )


def open_disk(disk: Disk, registry: Registry, number: int) -> LocalLun:
    """Opens the handler of a disk. Raises TcmuError or OSError."""
    largest = MAX_TRANSFER // disk.block_size
    serial = disk.serial or str(uuid4())
    description = Description(
        f"lun{number}",
        disk.config,
        disk.size,
        disk.block_size,
        disk.overrides.limit(
            Limits(max_transfer=largest, max_write_same=largest, physical_exponent=_exponent(disk))
        ),
        lambda: disk.overrides.identify(Identity(serial=serial)),
    )
    lun = Lun.open(description, registry)
    if disk.read_only:
        lun.unit.capabilities = replace(lun.unit.capabilities, write=False)
    lun.unit.removable = disk.removable
    return LocalLun(lun)


def _exponent(disk: Disk) -> int:
    """How many logical blocks make a physical one, as a power of two."""
    blocks, rest = divmod(disk.physical_block_size or disk.block_size, disk.block_size)
    if rest or blocks.bit_count() != 1:
        raise ConfigError(
            f"physical blocks of {disk.physical_block_size} bytes are no power of two of {disk.block_size}"
        )
    return blocks.bit_length() - 1


def serve(
    *disks: Disk, registry: Registry | None = None, portals: int = 1, credentials: Credentials | None = None
) -> Server:
    """A target with these LUNs, 0 and up, on loopback ports that were free; for use in a `with` statement.

    registry: where the handlers are found; by default those of installed packages.
    """
    if registry is None:
        registry = Registry()
        registry.load_entry_points()
    return Server(disks, registry, ports=(0,) * portals, credentials=credentials)
