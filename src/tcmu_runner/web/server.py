"""HTTP for a few small public documents: GET, HEAD, OPTIONS, one request for each connection.

Clients may be slow, broken or hostile. A connection has SECONDS from its beginning to our last byte, their
number is limited, and nothing that arrives is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from tcmu_runner.web.request import BadRequestError, HttpRequest, parse

LINE_BYTES = 8000  # of the request line: the least that RFC 9112, 3 recommends
HEAD_BYTES = 16384  # of request line and header fields
IGNORED_BYTES = 16 << 20  # of content and whatever else follows a request's head
METHODS = ("GET", "HEAD", "OPTIONS")
OTHERS = ("POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE")  # RFC 9110, 9.3 and RFC 5789
SECONDS = 10.0
CONNECTIONS = 64

ALLOW = {"Allow": ", ".join(METHODS)}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. type: the media type of `body`. headers: further ones."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def refusal(cls, status: HTTPStatus, text: str) -> Answer:
        return cls(f"{text}\n".encode(), status=status)

    def encode(self, now: float, *, body: bool) -> bytes:
        """now: seconds since the epoch."""
        content = {"Content-Type": self.type, "Content-Length": str(len(self.body))}
        fields = {
            "Date": formatdate(now, usegmt=True),
            **({} if self.status is HTTPStatus.NO_CONTENT else content),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *map(": ".join, fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + (self.body if body else b"")


class WebServer:
    """answer: called on the event loop with the path of a request; returns None if there is no such document.

    names: host names by which browsers may call us, besides localhost and addresses. Other names are refused,
    against DNS rebinding: a foreign page could point its own name to our address and read our documents.
    """

    def __init__(
        self,
        answer: Callable[[str], Awaitable[Answer | None]],
        names: Iterable[str] = (),
        now: Callable[[], float] = time.time,
        *,
        seconds: float = SECONDS,
        connections: int = CONNECTIONS,
    ) -> None:
        """now: the time of day, for the field Date. seconds: after which a slow client is cut off.
        connections: at most, at a time."""
        self._answer = answer
        self._names = {"localhost", *(name.lower() for name in names)}
        self._now = now
        self._seconds = seconds
        self._connections = connections
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listens; returns the port, a free one if `port` is 0. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._connections:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(self._seconds):
                writer.write(await self._respond(reader))
                await _close(reader, writer)
        except (OSError, EOFError):  # the client is gone, or too slow (TimeoutError)
            pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        head = b""
        try:
            head = await _head(reader)
            request = parse(head)
        except BadRequestError as refused:
            answer = Answer.refusal(refused.status, str(refused))
            return answer.encode(self._now(), body=not head.startswith(b"HEAD "))
        try:
            answer = await self._choose(request)
        except Exception:  # a bug in a document costs only this response
            log.exception("the answer to %s cannot be made", request.path)
            answer = Answer.refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log of tcmu-runner")
        return answer.encode(self._now(), body=request.method != "HEAD")

    async def _choose(self, request: HttpRequest) -> Answer:
        if request.host is not None and not self._is_us(request.host):
            way_out = "use an address, or add the name to metrics.names in the settings"
            text = f"unknown name {request.host!r}: {way_out}"
            return Answer.refusal(HTTPStatus.MISDIRECTED_REQUEST, text)
        if request.method == "OPTIONS":
            return Answer(b"", status=HTTPStatus.NO_CONTENT, headers=ALLOW)
        if request.method in OTHERS:
            body = b"there is nothing here but to read\n"
            return Answer(body, status=HTTPStatus.METHOD_NOT_ALLOWED, headers=ALLOW)
        if request.method not in METHODS:
            return Answer.refusal(HTTPStatus.NOT_IMPLEMENTED, f"unknown method {request.method}")
        answer = await self._answer(request.path)
        return answer or Answer.refusal(HTTPStatus.NOT_FOUND, "there are: / /status.json /metrics")

    def _is_us(self, host: str) -> bool:
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ip_address(name)
            return True
        return False


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The bytes up to and with the empty line. Raises BadRequestError for too many, EOFError."""
    head = await _line(reader, HTTPStatus.REQUEST_URI_TOO_LONG)
    if head == b"\r\n":  # RFC 9112, 2.2
        head = await _line(reader, HTTPStatus.REQUEST_URI_TOO_LONG)
    if len(head) > LINE_BYTES + 2:
        raise BadRequestError(
            HTTPStatus.REQUEST_URI_TOO_LONG, f"a request line has at most {LINE_BYTES} bytes"
        )
    while not head.endswith(b"\r\n\r\n"):
        head += await _line(reader, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(head) > HEAD_BYTES:
            raise BadRequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request has at most {HEAD_BYTES} bytes"
            )
    return head


async def _line(reader: asyncio.StreamReader, too_long: HTTPStatus) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError:
        raise BadRequestError(too_long, "a line is too long") from None


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads on until the client has closed, too: the kernel would answer unread bytes with a reset, and the
    client would lose what it has not read of the response (RFC 9112, 9.6)."""
    await writer.drain()
    writer.write_eof()
    ignored = 0
    while ignored < IGNORED_BYTES and (data := await reader.read(65536)):
        ignored += len(data)
    writer.close()
    await writer.wait_closed()
