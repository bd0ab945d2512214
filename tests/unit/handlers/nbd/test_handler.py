"""nbd beside a small server of our own: config, capabilities, errors, lost connections."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.waiting import succeeds

from tcmu_runner import iov
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device
from tcmu_runner.handlers.nbd import NbdHandler, NbdOptions
from tcmu_runner.handlers.nbd.dial import Address, Place
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.conformance import Outcome, check_handler, device

from .server import EVERYTHING, Server, answer

Test = Callable[[NbdHandler], Awaitable[None]]

SIZE = 1 << 20
UNMAPS = Capabilities(write=True, flush=True, unmap=True)
LOST = "test: lost the connection to its storage; commands wait or end in BUSY until it is back"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nbd.sock"


@pytest.fixture
def server(path: Path) -> Iterator[Server]:
    made = Server(path, 2 * SIZE)
    yield made
    made.stop()


def run(path: Path, test: Test | None = None, options: str = "", size: int = SIZE) -> None:
    """On a handler that is open."""
    made = Device("test", size)

    async def life() -> None:
        handler = await NbdHandler.open(made, NbdHandler.parse(f"unix{path}{options}"))
        if test is not None:
            await test(handler)
        await handler.close()

    asyncio.run(life())


def data(content: bytes) -> iov.Buffers:
    return [memoryview(bytearray(content))]


async def read(handler: NbdHandler, offset: int, length: int) -> bytes:
    into = [memoryview(bytearray(b"\xee" * length))]
    await handler.read(into, offset)
    return iov.gather(into)


# -- config --------------------------------------------------------------------------------------------


def test_parse() -> None:
    assert NbdHandler.parse("unix/run/a.sock") == NbdOptions("unix/run/a.sock")
    assert NbdOptions("unix/run/a.sock").place == Place(Address("/run/a.sock"))
    options = NbdHandler.parse("tcp/storage/1234;export=a/b;tls=/etc/pki;hold=5;keep=1M")
    assert (options.hold, options.keep) == (5, 1 << 20)
    assert options.place == Place(Address(host="storage", port=1234), "a/b", "/etc/pki")
    assert NbdHandler.parse("tcp/storage").place.address.port == 10809


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("tcp/[::1]:1234", 1234), ("tcp/[::1]/1234", 1234), ("tcp/::1/1234", 1234), ("tcp/[::1]", 10809),
        ("tcp/::1", 10809), ("tcp/[%3A%3A1]%3A1234", 1234), ("tcp/%3a%3a1/1234", 1234),
    ],
)  # fmt: skip
def test_ipv6(text: str, port: int) -> None:
    assert NbdHandler.parse(text).place.address == Address(host="::1", port=port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no address: write nbd/unix/run/disk.sock or nbd/tcp/HOST/PORT"),
        ("/run/a.sock", "is no address"),
        ("tcp/host/http", "'http' is no port"),
        ("tcp/host/10809/vol", "and the export as ;export=NAME"),
        ("tcp/[::1]:http", "'http' is no port"),
        ("unix/a;hold=x", "option hold=x is not a whole number"),
        ("unix/a;connections=17", "option connections=17: write 1 to 16"),
        ("unix/a;tls=pki", "write the directory's absolute path"),
        ("unix/a;tls_hostname=x", "has no effect: add ;tls=DIRECTORY"),
        ("unix/a;size=1", "unknown option 'size'; known options: connections, export, hold, keep, tls"),
    ],
)
def test_parse_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        NbdHandler.parse(text)
    assert message in str(error.value)


def test_it_describes_every_option() -> None:
    for option in NbdOptions.__dataclass_fields__:
        assert option in NbdHandler.describe().lower() or option == "address"


# -- opening -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ("", 4 * SIZE, "nbd.sock has 2097152 bytes (2 MiB), not 4194304: set dev_size to 2097152 or less"),
        (";tls=/nowhere", SIZE, "the server has no TLS: give it a certificate, or leave out ;tls="),
    ],
)
def test_refused(server: Server, options: str, size: int, message: str) -> None:
    with pytest.raises(OSError, match=r"nbd\.sock") as error:
        run(server.path, options=options, size=size)
    assert message in str(error.value)


def test_nobody_listens(path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory: start the NBD server, or correct the add"):
        run(path)


@pytest.mark.parametrize("maximum", [0, 511])
def test_a_server_that_takes_less_than_a_block(path: Path, maximum: int) -> None:
    server = Server(path, maximum=maximum)
    with pytest.raises(OSError, match=f"takes requests of at most {maximum} bytes: correct the server"):
        run(path)
    server.stop()


def test_blocks_that_are_too_small(path: Path) -> None:
    server = Server(path, minimum=4096)
    with pytest.raises(OSError, match="takes no blocks of less than 4096 bytes: set hw_block_size=4096"):
        run(path)
    server.stop()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (EVERYTHING, replace(UNMAPS, unmap_reads_zero=True, write_zeroes=True)),
        (EVERYTHING & ~64, UNMAPS),
        (1, Capabilities(write=True)),
        (3, Capabilities()),
    ],
)
def test_capabilities(path: Path, flags: int, expected: Capabilities) -> None:
    server = Server(path, flags=flags)

    async def look(handler: NbdHandler) -> None:
        assert handler.capabilities() == expected

    run(path, look)
    server.stop()


@pytest.mark.parametrize("flags", [EVERYTHING, 1 | 4])
def test_it_keeps_the_contract(path: Path, flags: int) -> None:
    server = Server(path, 32 << 20, flags=flags)
    report = check_handler(
        lambda: NbdHandler.open(device(), NbdHandler.parse(f"unix{path}")), persistent=True
    )
    assert report.ok, str(report)
    assert sum(result.outcome is Outcome.PASSED for result in report.results) > 12
    server.stop()


def test_large_transfers_are_split(server: Server) -> None:
    """Its server takes 64 KiB at once."""
    content = os.urandom(200_000 // 512 * 512)

    async def use(handler: NbdHandler) -> None:
        await handler.write(data(content), 512)
        assert await read(handler, 512, len(content)) == content

    run(server.path, use)
    assert server.disk[512 : 512 + len(content)] == content
    assert server.log.count(1) == server.log.count(0) == 4


# -- what goes wrong -----------------------------------------------------------------------------------


def test_errors_of_the_server(server: Server) -> None:
    def full(_server: Server, connection: socket.socket, kind: int, cookie: bytes, _offset: int) -> bool:
        answer(connection, cookie, errno.ENOSPC)
        return True

    async def use(handler: NbdHandler) -> None:
        server.saboteur = full
        with pytest.raises(OSError, match="No space left on device") as error:
            await handler.write(data(b"a" * 512), 0)
        assert error.value.errno == errno.ENOSPC

    run(server.path, use)


def lost(caplog: pytest.LogCaptureFixture, most: int) -> None:
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert set(lines) == {LOST}
    assert len(lines) <= most
    caplog.clear()


def lost_once(caplog: pytest.LogCaptureFixture) -> None:
    lost(caplog, 1)


def test_what_was_not_flushed_is_sent_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The server has forgotten it; what came between two writes to one place keeps its order."""

    async def use(handler: NbdHandler) -> None:
        await handler.write(data(b"1" * 512), 0)
        await handler.flush()
        await handler.write(data(b"2" * 512), 512)
        await handler.write(data(b"3" * 512), 512)
        await handler.unmap(1024, 512)
        server.disk[:] = b"\xee" * len(server.disk)
        server.stop()
        server.start()
        assert await read(handler, 0, 2048) == b"\xee" * 512 + b"3" * 512 + bytes(512) + b"\xee" * 512

    run(server.path, use)
    lost_once(caplog)


@pytest.mark.parametrize("how", ["cut off", "shutting down", "garbage"])
def test_a_request_that_was_not_answered_is_sent_again(
    server: Server, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    def once(server: Server, connection: socket.socket, _kind: int, cookie: bytes, _offset: int) -> bool:
        server.saboteur = None
        if how == "shutting down":
            answer(connection, cookie, errno.ESHUTDOWN)
        if how == "garbage":
            connection.sendall(b"?" * 16)
        server.cut_off()
        return True

    async def use(handler: NbdHandler) -> None:
        server.saboteur = once
        await handler.write(data(b"a" * 512), 512)
        assert await read(handler, 512, 512) == b"a" * 512

    run(server.path, use)
    assert server.log.count(1) == 2
    lost_once(caplog)


def test_a_read_whose_data_broke_off_is_sent_again(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def half(server: Server, connection: socket.socket, kind: int, cookie: bytes, _offset: int) -> bool:
        server.saboteur = None
        answer(connection, cookie, data=b"?" * 20000)
        server.cut_off()
        return True

    async def use(handler: NbdHandler) -> None:
        server.disk[:] = b"d" * len(server.disk)
        server.saboteur = half
        async with asyncio.timeout(20):
            assert await read(handler, 0, 32768) == b"d" * 32768

    run(server.path, use)
    lost_once(caplog)


@pytest.mark.parametrize("writes", [1, 2])
def test_a_server_that_dies_right_after_what_was_sent_again(
    server: Server, caplog: pytest.LogCaptureFixture, writes: int
) -> None:
    """Its answer and its end come together: the connection is lost before it was in use. Writes to one place
    are sent again one after the other."""
    resent = 0

    def answers_and_dies(
        server: Server, connection: socket.socket, kind: int, cookie: bytes, _offset: int
    ) -> bool:
        nonlocal resent
        if kind != 1 or len(server.log) <= writes or resent:
            return False
        resent += 1
        answer(connection, cookie)
        connection.shutdown(socket.SHUT_RDWR)
        return True

    server.saboteur = answers_and_dies

    async def use(handler: NbdHandler) -> None:
        for number in range(writes):
            await handler.write(data(bytes([number + 1]) * 512), 0)
        server.cut_off()
        async with asyncio.timeout(20):
            assert await read(handler, 0, 512) == bytes([writes]) * 512

    run(server.path, use)
    assert resent == 1
    lost(caplog, 2)  # again, where the answer comes some time before the end


def test_commands_end_in_busy_when_the_server_stays_away(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(handler: NbdHandler) -> None:
        server.stop()
        with pytest.raises(OSError, match="no connection to the server for 0 s") as error:
            await read(handler, 0, 512)
        assert error.value.errno == errno.ETIMEDOUT
        server.start()
        assert await succeeds(lambda: read(handler, 0, 512), TimeoutError) == bytes(512)

    run(server.path, use, options=";hold=0")
    lost_once(caplog)


def test_without_copies_initiators_are_told_of_lost_writes(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[OSError] = []

    async def use(handler: NbdHandler) -> None:
        handler.device.on_write_lost = told.append
        await handler.write(data(b"a" * 512), 0)
        server.cut_off()
        await read(handler, 0, 512)

    run(server.path, use, options=";keep=0")
    assert [error.errno for error in told] == [errno.EIO]
    caplog.clear()


def test_writes_that_nobody_flushes_do_not_fill_the_memory(server: Server) -> None:
    async def use(handler: NbdHandler) -> None:
        for number in range(64):
            await handler.write(data(b"a" * 4096), number * 4096)

    run(server.path, use, options=";keep=16K")
    assert server.log.count(3) >= 8


# -- resizing ------------------------------------------------------------------------------------------


def test_an_export_that_has_grown(server: Server) -> None:
    async def use(handler: NbdHandler) -> None:
        await handler.resize(2 * SIZE)  # there was room
        with pytest.raises(OSError, match="has 2097152 bytes, not 4194304: enlarge it at the server first"):
            await handler.resize(4 * SIZE)
        server.size = 4 * SIZE
        server.disk += bytes(2 * SIZE)
        await handler.resize(4 * SIZE)
        await handler.write(data(b"z" * 512), 4 * SIZE - 512)

    run(server.path, use)
    assert server.disk[-512:] == b"z" * 512


@pytest.mark.parametrize("lost_at", [0, 3], ids=["a read", "the flush"])
def test_an_export_grows_while_the_connection_is_lost(server: Server, lost_at: int) -> None:
    """The old connection is lost with what was under way when it was to be replaced."""

    def dies_once(server: Server, connection: socket.socket, kind: int, _cookie: bytes, _offset: int) -> bool:
        if kind != lost_at:
            return False
        server.saboteur = None
        server.size = 4 * SIZE
        connection.shutdown(socket.SHUT_RDWR)
        return True

    async def use(handler: NbdHandler) -> None:
        await handler.write(data(b"a" * 512), 0)
        server.saboteur = dies_once
        async with asyncio.timeout(20):
            reading = asyncio.ensure_future(read(handler, 0, 512))
            await asyncio.sleep(0)
            await handler.resize(4 * SIZE)
            assert await reading == b"a" * 512

    run(server.path, use)
