"""`tcmu-runner try`: serves a LUN of one handler over iSCSI on loopback, without kernel module or root."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tcmu_runner import settings
from tcmu_runner.embedded import Credentials, Disk, Server
from tcmu_runner.embedded.watch import ServerView
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Provider, Registry
from tcmu_runner.settings import Settings
from tcmu_runner.units import format_size

SIZE = 1 << 30  # bytes, if neither the command nor the storage gives a size
PROGRESS_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def layer(text: str) -> Layer:
    """Parses NAME OPTION=VALUE ...: values as in the settings; quotes around words are optional."""
    name, *pairs = shlex.split(text) or [""]
    table: dict[str, object] = {}
    for pair in pairs:
        option, _, value = pair.partition("=")
        try:
            table[option] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[option] = value
    try:
        return Layer.parse(name, table)
    except ConfigError as error:
        raise ConfigError(f"--filter {text!r}: {error}") from None


def run(options: argparse.Namespace) -> int:
    """Returns the command's exit status with --run, else 0. Raises TcmuError or OSError to be shown."""
    logging.basicConfig(level=logging.WARNING, format="tcmu-runner: %(message)s")
    registry, config = find_handler(options.handler, options.config, settings.load(options.settings))
    if options.layers:
        config = filtered(registry, config, tuple(map(layer, options.layers)))
    size = options.size or _present_size(registry, config, options.block_size) or SIZE
    disk = Disk(
        config, size, options.block_size, options.read_only, options.removable,
        serial=options.serial or "",
    )  # fmt: skip
    # Blocked in every thread started from here on, so that only sigtimedwait below receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        credentials = _credentials(options.user)
        server = Server([disk], registry, host=options.host, ports=[options.port], credentials=credentials)
        with server, _watched(server, registry, options.metrics) as page:
            if options.run is not None:
                return _run_command(options.run, {"uri": server.url(), **_environment(credentials)})
            print(_how_to_reach(server, disk, page, options.user), flush=True)
            _wait(server)
            return 0
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _present_size(registry: Registry, config: str, block_size: int) -> int:
    provider, parts = registry.find(config)
    return storage_size(provider, provider.parse(parts.rest), block_size)


def storage_size(provider: Provider, config: object, block_size: int) -> int:
    """Bytes of an existing storage, in whole blocks; 0 without one."""
    return (provider.probe(config) or 0) // block_size * block_size


def find_handler(name: str, config: str, given: Settings | None = None) -> tuple[Registry, str]:
    """A registry with the handler, and the whole config string. A handler's file is loaded alone, so it may
    use the subtype of an installed handler. Raises TcmuError or OSError."""
    registry = Registry()
    if not name.endswith(".py"):
        registry.load_entry_points()
        given = given or Settings()
        for directory in given.handlers.paths:
            registry.load_directory(directory)
        for stack in given.stacks:
            registry.put(registry.definition(stack.name, stack.handler, stack.layers, stack.description))
        subtype, _, rest = name.partition("/")
        return registry, f"{subtype}/{config or rest}"
    found = registry.load_file(Path(name))
    if len(found) > 1:
        names = ", ".join(cls.subtype for cls in found)
        raise ConfigError(f"{name} defines several handlers: {names}; try takes a file with one")
    return registry, f"{found[0].subtype}/{config}"


def filtered(registry: Registry, config: str, layers: tuple[Layer, ...]) -> str:
    """Registers a stack of these filters over the handler; returns its config string for the same storage."""
    subtype, _, rest = config.partition("/")
    name = "_".join([*(each.filter.name for each in layers), subtype])
    registry.put(registry.definition(name, subtype, layers))
    return f"{name}/{rest}"


@contextmanager
def _watched(server: Server, registry: Registry, port: int | None) -> Iterator[str]:
    """Yields the status page's URL; empty without a port."""
    if port is None:
        yield ""
        return
    from tcmu_runner.web.site import Site  # noqa: PLC0415 - only with --status-port

    site = Site(ServerView(server, registry))
    server.on_loop(lambda: site.open("127.0.0.1", port))
    try:
        yield site.url
    finally:
        server.on_loop(site.close)


def _credentials(user: str | None) -> Credentials | None:
    if user is None:
        return None
    secret = os.environ.get("CHAP_SECRET", "")
    if not secret:
        raise ConfigError("--user needs the secret in the environment variable CHAP_SECRET")
    return Credentials({user: secret})


def _environment(credentials: Credentials | None) -> dict[str, str]:
    """Variables that libiscsi and QEMU read to log in: a URL holds 255 bytes there, without `@` and `?`."""
    for user, secret in credentials.users.items() if credentials is not None else ():
        return {"LIBISCSI_CHAP_USERNAME": user, "LIBISCSI_CHAP_PASSWORD": secret}
    return {}


def _run_command(command: str, environment: Mapping[str, str]) -> int:
    """Returns the exit status as a shell does: 128 + N for a command that signal N ended."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    with subprocess.Popen(command, shell=True, env={**os.environ, **environment}) as child:
        for number in STOP_SIGNALS:
            signal.signal(number, lambda received, _frame: child.send_signal(received))
        status = child.wait()
    return status if status >= 0 else 128 - status


def _export(user: str) -> str:
    return f'\n  export LIBISCSI_CHAP_USERNAME={shlex.quote(user)} LIBISCSI_CHAP_PASSWORD="$CHAP_SECRET"'


def _how_to_reach(server: Server, disk: Disk, page: str, user: str | None) -> str:
    url, portal = server.url(), server.portals[0]
    address, name = portal.address, server.target.name
    what = f"{disk.config}: {format_size(disk.size)} in blocks of {disk.block_size} bytes"
    shown = f"\n  {page} shows what it does" if page else ""
    log_in = "" if user is None else _export(user)
    return f"""{what}
  {url}{shown}
{log_in}
  iscsi-inq {url}
  qemu-img info {url}
  iscsiadm -m discovery -t sendtargets -p {address}
  iscsiadm -m node -T {name} -p {address} --login

Ctrl-C ends it."""


def _wait(server: Server) -> None:
    """Waits for a signal; prints the rate of commands at a terminal."""
    shown = sys.stderr.isatty()
    before, since = 0, time.monotonic()
    while signal.sigtimedwait(STOP_SIGNALS, PROGRESS_SECONDS) is None:
        if shown:
            commands, now = server.commands, time.monotonic()
            rate = (commands - before) / (now - since)
            line = f"{server.sessions} sessions, {commands} commands, {rate:.0f}/s"
            print(f"\r{line:60}", end="", file=sys.stderr, flush=True)
            before, since = commands, now
    if shown:
        print(file=sys.stderr)
