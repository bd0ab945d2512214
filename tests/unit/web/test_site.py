"""The documents, as a browser and Prometheus get them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from tcmu_runner.web import site as module
from tcmu_runner.web.site import Site

from .watched import Watched


def fetched(path: str) -> tuple[dict[str, str], str]:
    """Header fields, with the first line under "", and body."""

    async def fetch() -> bytes:
        site = Site(Watched())
        await site.open("127.0.0.1", 0)
        host, port = site.url.removeprefix("http://").rstrip("/").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        site.close()
        return answer

    head, _, body = asyncio.run(fetch()).decode().partition("\r\n\r\n")
    first, *fields = head.split("\r\n")
    return {"": first, **dict(field.split(": ", 1) for field in fields)}, body


class Elements(HTMLParser):
    """Collects every element and attribute that could load something or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]


def test_the_page_is_one_file_without_outside_assets() -> None:
    head, body = fetched("/")
    assert head["Content-Type"] == "text/html; charset=utf-8"
    page = Elements()
    page.feed(body)
    assets = [each for each in page.found if each[1] in ("src", "href", "srcset", "data", "action")]
    assert [asset for asset in assets if not re.match(r"data:|#|metrics$", asset[2])] == []
    assert [each for each in page.found if each[1] == "style" or each[1].startswith("on")] == []
    urls = set(re.findall(r"[a-z]+://[^'\" )]+", body)) - {"http://www.w3.org/2000/svg"}  # a name space
    assert not urls and "@import" not in body


def test_the_policy_allows_what_is_in_the_page_and_nothing_else() -> None:
    head, _ = fetched("/")
    policy = dict(part.split(" ", 1) for part in head["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert policy.pop("form-action") == "'none'"
    assert policy.pop("connect-src") == "'self'" and policy.pop("img-src") == "data:"
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", value) for value in policy.values())
    assert set(policy) == {"script-src", "style-src"}


def test_the_name_of_the_host_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "<b>&%VERSION%")
    _, body = fetched("/")
    assert "on &lt;b&gt;&amp;" in body and "<b>&" not in body


def test_what_the_page_shows() -> None:
    head, body = fetched("/status.json")
    assert head["Content-Type"] == "application/json"
    told: dict[str, Any] = json.loads(body)
    assert told["devices"][0]["name"] == "user_0/vol0" and told["events"][0]["text"] == "a warning"


def test_metrics() -> None:
    head, body = fetched("/metrics")
    assert head["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'tcmu_device_size_bytes{device="user_0/vol0"} 1.073741824e+09' in body.splitlines()


def test_without_the_library_there_is_all_but_metrics(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tcmu_runner.web.collector", None)  # as where an import fails
    head, body = fetched("/metrics")
    assert head[""].startswith("HTTP/1.1 501 ")
    assert "apt-get install python3-prometheus-client" in body
    assert module.NO_METRICS in caplog.text
    assert fetched("/")[0][""] == "HTTP/1.1 200 OK"
    caplog.clear()


def test_nothing_else() -> None:
    assert fetched("/page.html")[0][""].startswith("HTTP/1.1 404 ")
