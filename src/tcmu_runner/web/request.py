"""The head of an HTTP request: parses what RFC 9110 and RFC 9112 require, refuses the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_LINE = re.compile(rf"({TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
# RFC 9110, 5.5: obs-text (80h to FFh) is opaque, and no other control character but a tab is in a value.
_FIELD = re.compile(rf"({TOKEN}):[ \t]*([\t -~\x80-\xff]*)")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(:[0-9]*)?")  # RFC 3986, 3.2


class BadRequestError(Exception):
    """status: of the response."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """path: of the target, without its query; `*` for the server as a whole. host: name and port by which the
    client calls us; None from HTTP/1.0, which need not send it."""

    method: str
    path: str
    host: str | None


def parse(head: bytes) -> HttpRequest:
    """Parses a head, which ends with the empty line. Raises BadRequestError."""
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise _bad("this is no HTTP request")
    method, target, major, minor = found.groups()
    if major != "1":
        raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.1")
    fields = [_field(line) for line in lines]
    _check_framing(fields)
    hosts = _values(fields, "host")
    if len(hosts) > 1 or (not hosts and minor != "0"):
        raise _bad("a request has one Host")  # RFC 9112, 3.2
    host = _authority(hosts[0]) if hosts else None
    path, named = _target(method, target)
    return HttpRequest(method, path, host if named is None else named)


def _bad(text: str) -> BadRequestError:
    return BadRequestError(HTTPStatus.BAD_REQUEST, text)


def _field(line: str) -> tuple[str, str]:
    """Name in lower case, and value (RFC 9112, 5). Refuses line folding (5.2)."""
    found = _FIELD.fullmatch(line)
    if found is None:
        raise _bad("this is no header field")
    return found[1].lower(), found[2].rstrip(" \t")


def _values(fields: Iterable[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in fields if name == wanted]


def _target(method: str, target: str) -> tuple[str, str | None]:
    """The path, and the authority of a target in absolute-form, which replaces Host (RFC 9112, 3.2)."""
    if target.startswith("/"):
        return target.partition("?")[0], None
    if target == "*" and method == "OPTIONS":
        return target, None
    scheme, _, rest = target.partition("://")
    authority = _authority(re.split("[/?#]", rest, maxsplit=1)[0])
    if scheme.lower() not in ("http", "https") or not authority:
        raise _bad("this is no target")
    path = rest[len(authority) :].partition("?")[0]
    return path if path.startswith("/") else "/", authority


def _authority(text: str) -> str:
    if _AUTHORITY.fullmatch(text) is None:
        raise _bad("this is no host")
    return text


def _check_framing(fields: list[tuple[str, str]]) -> None:
    """Refuses a request if it is unclear where its content ends (RFC 9112, 6); the content is ignored."""
    lengths = {each.strip() for value in _values(fields, "content-length") for each in value.split(",")}
    coded = _values(fields, "transfer-encoding")
    codings = [each.strip().lower() for value in coded for each in value.split(",")]
    if len(lengths) > 1 or not all(re.fullmatch("[0-9]+", each) for each in lengths) or (lengths and codings):
        raise _bad("the length of the content is not clear")
    if codings and codings[-1] != "chunked":
        raise _bad("chunked is not the last transfer coding")
    if codings not in ([], ["chunked"]):
        raise BadRequestError(HTTPStatus.NOT_IMPLEMENTED, "no transfer coding but chunked")
