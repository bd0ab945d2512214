"""The head of a request, by RFC 9110, 5 and RFC 9112, 2 to 6."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcmu_runner.web.request import BadRequestError, HttpRequest, parse


def head(line: str = "GET / HTTP/1.1", *fields: str | bytes, host: str | None = "localhost") -> bytes:
    named = [] if host is None else [f"Host: {host}"]
    lines = [line, *named, *fields]
    return b"\r\n".join(each if isinstance(each, bytes) else each.encode() for each in [*lines, "", ""])


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (head(), HttpRequest("GET", "/", "localhost")),
        (head("GET /a?b=c HTTP/1.1"), HttpRequest("GET", "/a", "localhost")),
        (head("GET / HTTP/1.7"), HttpRequest("GET", "/", "localhost")),  # 9110, 2.5: as 1.1
        (head("GET / HTTP/1.0", host=None), HttpRequest("GET", "/", None)),
        (head(host="[::1]:80"), HttpRequest("GET", "/", "[::1]:80")),
        (head(host="  localhost \t"), HttpRequest("GET", "/", "localhost")),
        (head("GET http://a.example:8/b?c HTTP/1.1"), HttpRequest("GET", "/b", "a.example:8")),
        (head("GET HTTP://a.example HTTP/1.1"), HttpRequest("GET", "/", "a.example")),
        (head("OPTIONS * HTTP/1.1"), HttpRequest("OPTIONS", "*", "localhost")),
        (head("GET / HTTP/1.1", b"X: caf\xc3\xa9 \xff"), HttpRequest("GET", "/", "localhost")),  # 9110, 5.5
        (head("GET / HTTP/1.1", "X:", "x!#$%&'*+-.^_`|~9: a\tb"), HttpRequest("GET", "/", "localhost")),
        (head("GET / HTTP/1.1", "Content-Length: 5"), HttpRequest("GET", "/", "localhost")),
        (head("GET / HTTP/1.1", "Content-Length: 5, 5"), HttpRequest("GET", "/", "localhost")),  # 9110, 8.6
        (head("GET / HTTP/1.1", "Transfer-Encoding: Chunked"), HttpRequest("GET", "/", "localhost")),
    ],
)
def test_requests(data: bytes, request_: HttpRequest) -> None:
    assert parse(data) == request_


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", 400),
        (head("GET /"), 400),  # HTTP/0.9
        (head("GET  / HTTP/1.1"), 400),
        (head("GET / HTTP/1.1 "), 400),
        (head(" GET / HTTP/1.1"), 400),
        (head("G(T / HTTP/1.1"), 400),
        (head("GET / HTTP/1.10"), 400),
        (head("GET / http/1.1"), 400),
        (head("GET / HTTP/2.0"), 505),
        (head("GET / HTTP/0.9"), 505),
        (head("GET relative HTTP/1.1"), 400),
        (head("GET * HTTP/1.1"), 400),  # 9112, 3.2.4: only OPTIONS
        (head("GET ftp://localhost/ HTTP/1.1"), 400),
        (head("GET http:///a HTTP/1.1"), 400),
        (head("GET http://user@localhost/ HTTP/1.1"), 400),  # 9110, 4.2.4
        (head("GET /\u00e9 HTTP/1.1"), 400),
        (head(host=None), 400),  # 9112, 3.2: no Host, two of them, and one that is none
        (head("GET / HTTP/1.1", "host: localhost"), 400),
        (head("GET / HTTP/1.0", "host: localhost"), 400),
        (head(host="[::1"), 400),
        (head(host="a b"), 400),
        (head(host="localhost:x"), 400),
        (head(host="user@localhost"), 400),
        (head("GET / HTTP/1.1", "X : y"), 400),  # 9112, 5.1
        (head("GET / HTTP/1.1", ": y"), 400),
        (head("GET / HTTP/1.1", "no colon"), 400),
        (head("GET / HTTP/1.1", "X: y", " folded"), 400),  # 9112, 5.2
        (head("GET / HTTP/1.1", b"X: a\0b"), 400),  # 9110, 5.5
        (head("GET / HTTP/1.1", b"X: a\rb"), 400),
        (head("GET / HTTP/1.1", b"X: a\nHost: b"), 400),
        (head("GET / HTTP/1.1", b"caf\xe9: b"), 400),
        (head("GET / HTTP/1.1", "Content-Length: -5"), 400),  # 9112, 6.3
        (head("GET / HTTP/1.1", "Content-Length: 5", "Content-Length: 6"), 400),
        (head("GET / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (head("GET / HTTP/1.1", "Transfer-Encoding: chunked, gzip"), 400),
        (head("GET / HTTP/1.1", "Transfer-Encoding: gzip, chunked"), 501),
        (head("GET / HTTP/1.1", "Transfer-Encoding: identity"), 400),
    ],
)
def test_refusals(data: bytes, status: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse(data)
    assert refused.value.status == status


PIECES = [b"GET", b" ", b"/", b"http://a", b"HTTP/1.1", b"\r\n", b"Host: a", b":", b"\xe9", b"#", b"["]


@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    with suppress(BadRequestError):
        request = parse(data)
        assert request.path.startswith("/") or request.path == "*"
