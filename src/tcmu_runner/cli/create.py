"""`tcmu-runner create`: makes a LUN and exports it; if a step fails, undoes all."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tcmu_runner import settings
from tcmu_runner.cli.daemon_client import ask
from tcmu_runner.cli.exports import wait_for_disk
from tcmu_runner.cli.iscsi import ChapCredentials, Grant
from tcmu_runner.cli.lio import Lio, Wanted
from tcmu_runner.cli.output import print_json, progress
from tcmu_runner.cli.try_ import find_handler
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.handler.config import escape_addresses
from tcmu_runner.units import format_size


@dataclass(frozen=True, slots=True)
class Made:
    """The result. size: bytes. disk: of a loopback export. The others are of iSCSI: portal: the first of
    portals; initiators: those with a rule; anybody: whether others have the LUN, too; chap: whether it is
    required."""

    name: str
    config: str
    size: int
    block_size: int
    disk: str = ""
    target: str = ""
    portal: str = ""
    lun: int = 0
    portals: Sequence[str] = ()
    initiators: Sequence[str] = ()
    anybody: bool = False
    chap: bool = False


def run(options: argparse.Namespace) -> int:
    """Raises TcmuError or OSError: nothing has changed then."""
    config = escape_addresses(f"{options.handler}/{options.config}")
    _check_options(options)
    lio = Lio()
    _check_config(config)
    if options.iscsi:
        lio.check_iscsi(options.iscsi, _access(options))
    with ExitStack() as undo, progress(f"asking {config} how large it is") as tell:
        size = options.size or _probe(config) // options.block_size * options.block_size
        wanted = Wanted(options.name, config, size, options.block_size, options.max_io, options.data_area)
        tell(f"{options.name}: opening its storage")
        made = _make(lio, undo, wanted, options)
        if not options.no_save:
            lio.save()
        undo.pop_all()
    if options.json:
        print_json(made)
    else:
        print(_told(made))
    return 0


def _check_options(options: argparse.Namespace) -> None:
    if options.user is not None and not os.environ.get("CHAP_SECRET"):
        raise ConfigError("--user needs the secret in the environment variable CHAP_SECRET")
    for option in ("initiator", "any_initiator", "user", "portal"):
        if getattr(options, option) and not options.iscsi:
            raise ConfigError(f"--{option.replace('_', '-')} is for --iscsi IQN")


def _check_config(config: str) -> None:
    """Asks the daemon: it may have handlers that this process cannot load."""
    if why := ask(lambda daemon: daemon.check_config(config), start=True):
        raise ConfigError(why)


def _probe(config: str) -> int:
    """The size in bytes of a storage that exists; raises ConfigError for one that does not."""
    try:
        registry, _ = find_handler(config, "", settings.load(None))
        provider, parts = registry.find(config)
        size = provider.probe(provider.parse(parts.rest))
    except TcmuError:  # a handler that only the daemon has
        size = None
    if not size:
        raise ConfigError(f"how large? Nothing tells the size of {config} yet: add --size 10G")
    return size


def _make(lio: Lio, undo: ExitStack, wanted: Wanted, options: argparse.Namespace) -> Made:
    began = time.time()
    try:
        store = lio.make_backstore(undo, wanted)
    except (TcmuError, OSError) as error:
        raise TcmuError(f"{wanted.name}: {_reason(wanted.name, began) or error}") from error
    made = Made(wanted.name, wanted.config, wanted.size, wanted.block_size)
    if options.loopback:
        return Made(*_start(made), disk=wait_for_disk(lio.export_loopback(undo, store)))
    if options.iscsi:
        there = lio.export_iscsi(undo, store, options.iscsi, _access(options))
        return Made(
            *_start(made), target=options.iscsi, portal=next(iter(there.portals), ""), lun=there.lun,
            portals=there.portals, initiators=there.initiators, anybody=there.anybody, chap=there.chap,
        )  # fmt: skip
    return made


def _access(options: argparse.Namespace) -> Grant:
    chap = (
        ChapCredentials(options.user, os.environ.get("CHAP_SECRET", ""))
        if options.user
        else ChapCredentials()
    )
    return Grant(options.portal or "", options.initiator, options.any_initiator, chap)


def _start(made: Made) -> tuple[str, str, int, int]:
    return made.name, made.config, made.size, made.block_size


def _reason(name: str, since: float) -> str:
    """The daemon's reason for a refusal since that time; the kernel passes only an errno on."""
    try:
        told = ask(lambda daemon: daemon.device_events())
    except TcmuError:
        return ""
    new = [each for each in told if each.time >= since and each.device.rpartition("/")[2] == name]
    return next((each.text for each in reversed(new) if "refused" in each.text), "")


def _told(made: Made) -> str:
    lines = [f"{made.name}: {made.config}, {format_size(made.size)} in blocks of {made.block_size} bytes"]
    if made.disk:
        lines.append(f"  disk of this machine: {made.disk}")
    if made.target:
        lines.append(f"  iSCSI: {made.target} LUN {made.lun}, portal {' and '.join(made.portals) or 'none'}")
        who = "any initiator" if made.anybody else ", ".join(made.initiators)
        lines.append(f"  for: {who}, {'with' if made.chap else 'without'} CHAP")
        address = made.portal.replace("0.0.0.0", "THIS_MACHINE").replace("[::]", "THIS_MACHINE")
        lines.append(f"  initiators: iscsiadm -m discovery -t sendtargets -p {address} --login")
    if not (made.disk or made.target):
        lines.append("  not exported yet: targetcli can do that")
    return "\n".join(lines)
