"""The documents: the status page, its data, and the metrics."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from html import escape
from http import HTTPStatus
from importlib import resources
from importlib.metadata import version

from tcmu_runner.engine.observe.view import DeviceView, Watchable
from tcmu_runner.web.report import devices, report
from tcmu_runner.web.server import Answer, WebServer

NO_METRICS = (
    "no metrics without the Python package prometheus-client: "
    "apt-get install python3-prometheus-client, or pip install prometheus-client"
)

log = logging.getLogger(__name__)


class Site:
    """Call `open` and `close` on the event loop that the Watchable belongs to."""

    def __init__(self, watchable: Watchable, names: Iterable[str] = ()) -> None:
        self._watchable = watchable
        self.url = ""  # set while it is open
        self._page = _page()
        self._render: Callable[[Sequence[DeviceView]], bytes] | None = None
        self._server = WebServer(self._answer, names)

    async def open(self, host: str, port: int) -> None:
        """port: 0 is any free one. Raises OSError."""
        self._render = _load_collector()
        port = await self._server.open(host, port)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        log.info("status page and metrics at %s", self.url)

    def close(self) -> None:
        self._server.close()

    async def _answer(self, path: str) -> Answer | None:
        match path:
            case "/":
                return self._page
            case "/status.json":
                body = json.dumps(report(self._watchable), separators=(",", ":"))
                return Answer(body.encode(), "application/json")
            case "/metrics":
                return await self._metrics()
        return None

    async def _metrics(self) -> Answer:
        if self._render is None:
            return Answer.refusal(HTTPStatus.NOT_IMPLEMENTED, NO_METRICS)
        text = await asyncio.to_thread(self._render, devices(self._watchable))  # may be thousands of lines
        return Answer(text, "text/plain; version=0.0.4; charset=utf-8")


def _load_collector() -> Callable[[Sequence[DeviceView]], bytes] | None:
    try:
        from tcmu_runner.web.collector import render  # noqa: PLC0415 - its library costs 14 MB
    except ImportError:
        log.warning("%s", NO_METRICS)
        return None
    return render


def _page() -> Answer:
    """The page with a Content-Security-Policy: only its own script and style, requests only to us."""
    text = resources.files("tcmu_runner.web").joinpath("page.html").read_text(encoding="utf-8")
    text = text.replace("%HOST%", escape(socket.gethostname())).replace("%VERSION%", version("tcmu-runner"))
    allowed = {
        "default-src": "'none'",
        "script-src": _hash(text, "script"),
        "style-src": _hash(text, "style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    policy = "; ".join(map(" ".join, allowed.items()))
    return Answer(text.encode(), "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _hash(text: str, element: str) -> str:
    """The hash of the page's one element of this kind (CSP level 3, 2.3.1)."""
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
