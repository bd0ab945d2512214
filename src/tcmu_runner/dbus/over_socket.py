"""Method calls over the daemon's control socket: see control_socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tcmu_runner.dbus.calls import CallError, MethodCall
from tcmu_runner.errors import DeviceError


async def call(path: Path, request: MethodCall) -> list[Any]:
    """The method's results. Opens a connection for each call, so that a restarted daemon is found.

    Raises CallError; OSError if no process listens or we may not connect; DeviceError without an answer.
    """
    asked = {
        "path": request.path,
        "interface": request.interface,
        "method": request.method,
        "arguments": request.arguments,
    }
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(json.dumps(asked).encode() + b"\n")
        writer.write_eof()
        text = await reader.read()
    except ConnectionError:
        text = b""
    finally:
        writer.close()
    if not text:
        raise DeviceError(f"tcmu-runner has closed {path} without an answer: look at its log")
    answer = json.loads(text)
    if "error" in answer:
        raise CallError(answer["error"], answer["text"])
    return list(answer["results"])
