"""`tcmu-runner delete`: removes a LUN and its exports, not the data that its handler stores."""

from __future__ import annotations

import argparse
from pathlib import Path

from tcmu_runner.cli.exports import exports, users
from tcmu_runner.cli.lio import Lio
from tcmu_runner.cli.output import print_json, progress
from tcmu_runner.errors import ConfigError
from tcmu_runner.printable import utf8


def run(options: argparse.Namespace) -> int:
    """Raises TcmuError or OSError."""
    lio = Lio()
    store = lio.find(options.name)
    path = Path(store.path)
    name = utf8(f"{path.parent.name}/{path.name}")
    if not options.force:
        _check_unused(name)
    with progress(f"{name}: waiting for its commands, and closing its storage"):
        empty = lio.remove(store)
    if not options.no_save:
        lio.save()
    if options.json:
        print_json({"name": name, "empty_targets": empty})
        return 0
    print(f"{name}: removed; its data stays")
    for target in empty:
        fabric, _, wwn = target.partition(" ")
        print(f"  {target} has no LUN any more: targetcli /{fabric} delete {wwn}")
    return 0


def _check_unused(name: str) -> None:
    for export in exports().get(name, []):
        for user in users(export):
            raise ConfigError(f"{name} is in use: {user}; end that first, or add --force")
