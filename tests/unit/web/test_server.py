"""HTTP for the slow, the broken and the hostile, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.web import server as module
from tcmu_runner.web.server import Answer, Server, parse

LARGE = 64 << 20  # more than sockets hold


async def documents(path: str) -> Answer | None:
    if path == "/broken":
        raise ZeroDivisionError("a bug")
    if path == "/large":
        return Answer(bytes(LARGE))
    return Answer(b"hello", headers={"X-Mine": "1"}) if path == "/" else None


@contextmanager
def serving(*names: str) -> Iterator[int]:
    """A server's port; its loop is on a thread of its own."""
    ports: list[int] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server = Server(documents, names)
        ports.append(await server.open("127.0.0.1", 0))
        ready.set()
        await stop.wait()
        server.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=asyncio.Runner(loop_factory=lambda: loop).run, args=[run()])
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def rest(connection: socket.socket) -> bytes:
    """What still comes until the server has closed the connection, in order or not."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def ask(port: int, request: str | bytes) -> str:
    with connect(port) as connection:
        connection.sendall(request if isinstance(request, bytes) else request.encode())
        return rest(connection).decode(errors="replace")


def answer_to(request: str | bytes, *names: str) -> str:
    with serving(*names) as port:
        return ask(port, request)


def get(path: str = "/", *, method: str = "GET", host: str = "127.0.0.1") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n"


def test_a_document() -> None:
    head, _, body = answer_to(get()).partition("\r\n\r\n")
    assert body == "hello"
    assert head.split("\r\n")[0] == "HTTP/1.1 200 OK"
    assert {"Content-Length: 5", "Connection: close", "X-Content-Type-Options: nosniff", "X-Mine: 1"} <= set(
        head.split("\r\n")
    )


def test_what_follows_a_question_mark_means_nothing() -> None:
    assert answer_to(get("/?x=/nowhere")).endswith("hello")


def test_head_is_get_without_the_body() -> None:
    answer = answer_to(get(method="HEAD"))
    assert "Content-Length: 5" in answer and answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/nowhere"), 404),
        (get("/../../etc/passwd"), 404),
        (get(method="POST"), 405),
        ("GET / HTTP/1.1\r\n\r\n", 400),  # RFC 9112 3.2: no Host, and two of them
        ("GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n", 400),
        ("GET / SMTP\r\nHost: localhost\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # the beginning of TLS
        (b"\xff\xfe\r\n\r\n", 400),
        (get("/" + "x" * 10000), 400),
    ],
)
def test_refusals(request_: str | bytes, status: int) -> None:
    assert answer_to(request_).startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:9809", "localhost", "LocalHost:1", "san.example:80"])
def test_names_that_can_only_be_us(host: str) -> None:
    assert answer_to(get(host=host), "SAN.example").startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil", "san.example.evil", "", "[::1", "a b"])
def test_a_name_that_anybody_can_let_point_to_us_is_refused(host: str) -> None:
    """DNS rebinding."""
    answer = answer_to(get(host=host), "san.example")
    assert answer.startswith("HTTP/1.1 421 ")
    assert "metrics.names" in answer and "hello" not in answer


def test_a_bug_costs_one_answer_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as port:
        assert ask(port, get("/broken")).startswith("HTTP/1.1 500 ")
        assert ask(port, get()).endswith("hello")
    assert "the answer to /broken cannot be made" in caplog.text and "ZeroDivisionError" in caplog.text
    caplog.clear()


def test_who_sends_half_a_request_is_let_go_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)
    with serving() as port, connect(port) as slow:
        slow.sendall(b"GET / HT")
        assert ask(port, get()).endswith("hello")
        assert rest(slow) == b""


def test_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)
    monkeypatch.setattr(module, "CONNECTIONS", 1)
    with serving() as port, connect(port) as slow:
        slow.sendall(get("/large").encode())
        while not ask(port, get()).endswith("hello"):  # as long as the only place is taken
            pass
        assert len(rest(slow)) < LARGE


def test_more_connections_than_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    with serving() as port:
        with connect(port), connect(port), connect(port) as third:
            assert rest(third) == b""
        while not ask(port, get()).endswith("hello"):  # until the server has seen that the two are gone
            pass


def test_closing_ends_what_is_open() -> None:
    with serving() as port:
        idle = connect(port)
        assert ask(port, get()).endswith("hello")  # so the other one has been accepted
    with idle:
        assert rest(idle) == b""


@given(st.binary())
def test_any_bytes_are_a_request_or_a_value_error(head: bytes) -> None:
    try:
        method, target, host = parse(head)
    except ValueError:
        return
    assert target.startswith("/") and method is not None and host is not None
