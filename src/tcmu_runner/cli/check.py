"""`tcmu-runner check`: validates a config string or a settings file, or runs the conformance kit on a
handler."""

from __future__ import annotations

import argparse
from pathlib import Path

from tcmu_runner import settings
from tcmu_runner.cli.hints import in_options
from tcmu_runner.cli.output import print_json, progress
from tcmu_runner.cli.try_ import find_handler, storage_size
from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.filter import StackDefinition
from tcmu_runner.testing.conformance import SIZE, check_class


def run(options: argparse.Namespace) -> int:
    """0 when valid, or the handler keeps the contract, else 1. Raises TcmuError."""
    if options.handler.endswith(".toml"):
        settings.load(Path(options.handler))
        return _right(options, "settings", "no mistakes")
    if "/" in options.handler and not options.handler.endswith(".py") and not options.config:
        _check_config(options.handler)
        return _right(options, "config", "the handler understands it; what it names was not touched")
    registry, text = find_handler(options.handler, options.config)
    handler, parts = registry.find(text)
    if isinstance(handler, StackDefinition):
        raise ConfigError(
            f"{handler.subtype} has filters: check {handler.handler.subtype}, which is below them"
        )
    parsed = handler.parse(parts.rest)
    if not options.overwrite and handler.occupied(parsed):
        raise ConfigError(
            f"{text} holds something, which the check would overwrite: name another storage, or add "
            "--overwrite"
        )
    size = options.size or storage_size(handler, parsed, options.block_size) or SIZE
    with progress("opening it") as tell:
        report = check_class(
            handler, parts.rest, size=size, block_size=options.block_size,
            persistent=options.persistent, forgets=options.forgets, tell=tell,
        )  # fmt: skip
    text = in_options(str(report))
    if options.json:
        print_json({"handler": handler.subtype, "ok": report.ok, "report": text})
    else:
        print(text)
    return 0 if report.ok else 1


def _right(options: argparse.Namespace, what: str, told: str) -> int:
    if options.json:
        print_json({what: options.handler, "ok": True})
    else:
        print(f"{options.handler}: {told}")
    return 0


def _check_config(config: str) -> None:
    """Checks in this process, as the daemon would: the daemon need not run."""
    registry, _ = find_handler(config, "", settings.load(None))
    registry.check(config)
