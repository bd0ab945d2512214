"""HTTP for a few small documents that anybody may read: GET and HEAD, one request for each connection.

Whoever connects may be slow, broken or hostile. A connection has a few seconds from its beginning to our last
byte, and there are only so many of them; nothing that arrives is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

HEAD_BYTES = 8192  # of request line and header fields
SECONDS = 10.0
CONNECTIONS = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """type: the media type of `body`. headers: further ones."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def refusal(cls, status: HTTPStatus, text: str) -> Answer:
        return cls(f"{text}\n".encode(), status=status)

    def encode(self, *, body: bool) -> bytes:
        fields = {
            "Content-Type": self.type,
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *map(": ".join, fields.items())]
        return "\r\n".join([*lines, "", ""]).encode() + (self.body if body else b"")


class Server:
    """answer: called on the event loop with the path of a request; None where there is no such document.

    names: by which browsers may call us, besides localhost and addresses. Any other name is refused: a page
    of anybody's could have its own name point to our address and read from us what is not for it.
    """

    def __init__(self, answer: Callable[[str], Awaitable[Answer | None]], names: Iterable[str] = ()) -> None:
        self._answer = answer
        self._names = {"localhost", *(name.lower() for name in names)}
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listens; returns the port, which was any free one if 0 was asked for. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(await self._respond(reader))
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError):  # gone, or too slow, which is TimeoutError
            pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, host = parse(head)
        except (asyncio.LimitOverrunError, ValueError):
            return Answer.refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP request").encode(body=True)
        try:
            answer = await self._choose(method, target, host)
        except Exception:  # a bug of ours must be seen, and cost no more than this answer
            log.exception("the answer to %s cannot be made", target)
            answer = Answer.refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log of tcmu-runner")
        return answer.encode(body=method != "HEAD")

    async def _choose(self, method: str, target: str, host: str) -> Answer:
        if not self._is_us(host):
            return Answer.refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"unknown name {host!r}: use an address, or add the name to metrics.names in the settings",
            )
        if method not in ("GET", "HEAD"):
            return Answer.refusal(HTTPStatus.METHOD_NOT_ALLOWED, "there is nothing here but to read")
        answer = await self._answer(target.partition("?")[0])
        return answer or Answer.refusal(HTTPStatus.NOT_FOUND, "there are: / /status.json /metrics")

    def _is_us(self, host: str) -> bool:
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ip_address(name)
            return True
        return False


def parse(head: bytes) -> tuple[str, str, str]:
    """Method, target and Host of a request (RFC 9112, 3). Raises ValueError."""
    first, *lines = head.decode("ascii").split("\r\n")
    method, target, version = first.split(" ")
    fields = (line.partition(":") for line in lines)
    hosts = [value.strip() for name, _, value in fields if name.lower() == "host"]
    if not version.startswith("HTTP/1.") or not target.startswith("/") or len(hosts) != 1:
        raise ValueError(first)
    return method, target, hosts[0]
