"""HTTP for the slow, the broken and the hostile, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcmu_runner.web.server import CONNECTIONS, SECONDS, Answer, WebServer

LARGE = 64 << 20  # more than sockets hold


async def documents(path: str) -> Answer | None:
    if path == "/broken":
        raise ZeroDivisionError("a bug")
    if path == "/large":
        return Answer(bytes(LARGE))
    return Answer(b"hello", headers={"X-Mine": "1"}) if path == "/" else None


@contextmanager
def serving(
    *names: str,
    now: Callable[[], float] = time.time,
    seconds: float = SECONDS,
    connections: int = CONNECTIONS,
) -> Iterator[int]:
    """A server's port; its loop is on a thread of its own."""
    ports: list[int] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server = WebServer(documents, names, now, seconds=seconds, connections=connections)
        ports.append(await server.open("127.0.0.1", 0))
        ready.set()
        await stop.wait()
        server.close()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)  # a task that the loop leaves behind is logged in another test

    stop = asyncio.Event()
    thread = threading.Thread(target=asyncio.Runner(loop_factory=lambda: loop).run, args=[run()])
    thread.start()
    assert ready.wait(60)
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


def test_a_request_line_of_8000_bytes() -> None:
    """RFC 9112, 3: a length that every server should take."""
    assert answer_to(get("/?" + "x" * 7980)).endswith("hello")


def test_head_is_get_without_the_body() -> None:
    answer = answer_to(get(method="HEAD"))
    assert "Content-Length: 5" in answer and answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/nowhere"), 404),
        (get("/../../etc/passwd"), 404),
        ("GET / SMTP\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # the beginning of TLS
        (b"\xff\xfe\r\n\r\n", 400),
        (get("/" + "x" * 10000), 414),
        (get("/" + "x" * 100000), 414),
        (get(host="localhost\r\nX: " + "x" * 20000), 431),  # RFC 6585, 5
        ("GET / HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * 4000 + "\r\n", 431),
    ],
)
def test_refusals(request_: str | bytes, status: int) -> None:
    assert answer_to(request_).startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:9809", "localhost", "LocalHost:1", "san.example:80"])
def test_names_that_can_only_be_us(host: str) -> None:
    assert answer_to(get(host=host), "SAN.example").startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil", "san.example.evil", ""])
def test_a_name_that_anybody_can_let_point_to_us_is_refused(host: str) -> None:
    """DNS rebinding."""
    answer = answer_to(get(host=host), "san.example")
    assert answer.startswith("HTTP/1.1 421 ")
    assert "metrics.names" in answer and "hello" not in answer


def test_the_target_names_us_and_not_host() -> None:
    """RFC 9112, 3.2.2: in absolute-form the authority of the target counts, and Host does not."""
    assert answer_to(get("http://localhost:9/?x", host="evil.example")).endswith("hello")
    assert answer_to(get("http://evil.example/", host="localhost")).startswith("HTTP/1.1 421 ")


def test_http_1_0_without_host() -> None:
    """As load balancers look whether a server lives; no browser sends it, so no page can."""
    assert answer_to("GET / HTTP/1.0\r\n\r\n").endswith("hello")


def test_an_empty_line_before_a_request_means_nothing() -> None:
    """RFC 9112, 2.2."""
    assert answer_to("\r\n" + get()).endswith("hello")


@pytest.mark.parametrize(
    ("method", "status"),
    [("POST", 405), ("DELETE", 405), ("TRACE", 405), ("PATCH", 405), ("get", 501), ("BREW", 501)],
)
def test_methods_that_are_not_ours(method: str, status: int) -> None:
    """RFC 9110, 9.1 and 15.5.6: known ones are not allowed, and Allow says which are."""
    answer = answer_to(get(method=method))
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert ("\r\nAllow: GET, HEAD, OPTIONS\r\n" in answer) is (status == 405)


@pytest.mark.parametrize("target", ["/", "*", "/nowhere"])
def test_options(target: str) -> None:
    """RFC 9110, 9.3.7."""
    head, _, body = answer_to(get(target, method="OPTIONS")).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 204 ")
    assert "\r\nAllow: GET, HEAD, OPTIONS" in head and "Content-Length" not in head and body == ""


@pytest.mark.parametrize("request_", [get("/nowhere", method="HEAD"), "HEAD / HTTP/1.1\r\n\r\n"])
def test_no_answer_to_head_has_a_body(request_: str) -> None:
    """RFC 9110, 9.3.2."""
    head, _, body = answer_to(request_).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 4") and body == ""


def test_every_answer_has_its_date() -> None:
    """RFC 9110, 6.6.1."""
    with serving(now=lambda: 784111777.0) as port:
        for request in (get(), get("/nowhere"), "nonsense\r\n\r\n"):
            assert "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" in ask(port, request)


def test_what_follows_a_request_does_not_cost_its_answer() -> None:
    """RFC 9112, 9.6: a connection closed with unread bytes is reset, and the answer may be lost with it."""
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
    with serving() as port, connect(port) as connection:
        connection.sendall(request + bytes(1 << 20))
        received = b""
        while data := connection.recv(65536):  # to the end, in order
            received += data
    assert received.startswith(b"HTTP/1.1 405 ")


def test_one_request_for_each_connection() -> None:
    """RFC 9112, 9.3: what is sent after an answer with `Connection: close` is not looked at."""
    answer = answer_to(get() + get())
    assert answer.count("HTTP/1.1") == 1 and answer.endswith("hello")


def test_who_waits_for_100_continue_is_answered() -> None:
    """RFC 9110, 10.1.1: the final status is an answer to it."""
    expecting = "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    assert answer_to(expecting).startswith("HTTP/1.1 200 ")


def test_a_bug_costs_one_answer_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as port:
        assert ask(port, get("/broken")).startswith("HTTP/1.1 500 ")
        assert ask(port, get()).endswith("hello")
    assert "the answer to /broken cannot be made" in caplog.text and "ZeroDivisionError" in caplog.text
    caplog.clear()


def test_who_sends_half_a_request_is_let_go_and_keeps_nobody_waiting() -> None:
    with serving(seconds=0.5) as port, connect(port) as slow:
        slow.sendall(b"GET / HT")
        while not ask(port, get()).endswith("hello"):  # on a busy machine another one may be too slow, too
            pass
        assert rest(slow) == b""


def test_who_does_not_read_is_let_go() -> None:
    with serving(seconds=0.5, connections=1) as port, connect(port) as slow:
        slow.sendall(get("/large").encode())
        while not ask(port, get()).endswith("hello"):  # as long as the only place is taken
            pass
        assert len(rest(slow)) < LARGE


def test_more_connections_than_there_are_places() -> None:
    with serving(connections=2) as port:
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
