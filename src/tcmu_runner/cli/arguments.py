"""The options of all commands. The module that runs a command is imported only when the command runs.

Manual pages and shell completion are generated from this, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from tcmu_runner.units import parse_size

OPEN_FILES = range(65536, 1048577)
EXIT_STATUS = """exit status:
  0  done
  1  refused or failed; the reason is on standard error
  2  the command line is wrong
"""

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tcmu-runner",
        description="Serves the userspace-backed LUNs (TCMU) of the Linux SCSI target from Python handlers. "
        "Without a subcommand it is the daemon.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_daemon(top)
    subcommands = top.add_subparsers(title="subcommands", metavar="COMMAND")
    for add in (
        _add_create, _add_delete, _add_resize, _add_list, _add_show, _add_top, _add_drain, _add_restart,
        _add_faults, _add_handlers, _add_check, _add_try, _add_overlay, _add_doctor, _add_release,
        _add_completion, _add_manual,
    ):  # fmt: skip
        add(subcommands)
    return top


class _Version(argparse.Action):
    """Prints one line, with the version as last word: other programs parse it."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - slow to import, and only needed here

        print(f"tcmu-runner {version('tcmu-runner')}")
        parser.exit()


def _add_daemon(top: argparse.ArgumentParser) -> None:
    """Adds the options of the daemon: those of the C daemon, and ours."""
    top.set_defaults(run_subcommand="tcmu_runner.cli.serve:run")
    add = top.add_argument
    add("-V", "--version", action=_Version)
    add("-d", "--debug", action="store_true", help="log what is of interest to developers, and each command")
    add("-f", "--nofile", type=_open_files, metavar="N", help="how many files may be open, 65536 to 1048576")
    add("--handler-path", type=Path, metavar="DIR", help="look for handlers (*.py) in DIR, too")
    add(
        "-l",
        "--tcmu-log-dir",
        type=Path,
        metavar="DIR",
        help="log to tcmu-runner.log in DIR (default: /var/log)",
    )
    add(
        "--settings",
        type=Path,
        metavar="FILE",
        help="settings instead of those in /etc/tcmu/tcmu-runner.toml",
    )


def _command(
    subparsers: Subparsers, name: str, run: str, told: str, *, examples: str = "", json: bool = False
) -> argparse.ArgumentParser:
    """run: the module and function that carries it out."""
    made = subparsers.add_parser(
        name, help=told, description=f"{told[0].upper()}{told[1:]}.", epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.set_defaults(run_subcommand=f"tcmu_runner.cli.{run}")
    if json:
        made.add_argument("--json", action="store_true", help="print JSON instead of text for people")
    return made


def _on_lun(subparsers: Subparsers, name: str, run: str, told: str) -> argparse.ArgumentParser:
    made = _command(subparsers, name, run, told, json=True)
    made.add_argument("name", help="the LUN's name: vol0, or user_0/vol0")
    return made


# -- LUNs of the kernel -------------------------------------------------------------------------------


def _add_create(subparsers: Subparsers) -> None:
    made = _command(
        subparsers, "create", "create:run", "make a LUN and export it", json=True,
        examples="""examples:
  tcmu-runner create vol0 file /srv/disk.img --size 10G --loopback
  tcmu-runner create vol0 file /srv/disk.img --size 10G --iscsi iqn.2026-11.com.example:vol0 \\
      --initiator iqn.1993-08.org.debian:01:abc

LUN and exports are saved for the next boot, as targetcli saves them; should a step fail, all before it are
undone. An existing iSCSI target keeps its portals and rules: options that differ from them are refused.
""",
    )  # fmt: skip
    add = made.add_argument
    add("name", help="the backstore's name in LIO")
    add("handler", help="the handler that stores its bytes; `tcmu-runner handlers` lists them")
    add("config", nargs="?", default="", help="the handler's configuration: what follows HANDLER/")
    add("--size", type=size, help="bytes, or with K, M, G, T; needed unless the storage exists and tells it")
    add("--block-size", type=int, default=512, choices=(512, 1024, 2048, 4096), help="bytes (default: 512)")
    exports = made.add_mutually_exclusive_group()
    exports.add_argument(
        "--iscsi", metavar="IQN", help="as a LUN of this iSCSI target, which is made if it is new"
    )
    exports.add_argument("--loopback", action="store_true", help="as a disk of this machine")
    exports.add_argument("--none", action="store_true", help="not exported (default)")
    add("--portal", metavar="ADDRESS:PORT",
        help="where a new iSCSI target listens (default: 0.0.0.0:3260)")  # fmt: skip
    add("--initiator", action="append", default=[], metavar="IQN", help="may log in; repeat it for more. "
        "Other initiators of an existing target do not get the LUN")  # fmt: skip
    add("--any-initiator", action="store_true", help="every initiator that reaches the portal may log in and "
        "write; for a new target, or one that allows it already")  # fmt: skip
    add(
        "--user",
        metavar="NAME",
        help="demand CHAP: this user, with the secret in the environment variable CHAP_SECRET",
    )
    add(
        "--max-io",
        type=size,
        default="1M",
        metavar="SIZE",
        help="the transfer size advised to initiators (default: 1M)",
    )
    add("--data-area", type=size, default="128M", metavar="SIZE",
        help="most memory for data under way (default: 128M)")  # fmt: skip
    add("--no-save", action="store_true", help="do not save LIO's configuration for the next boot")


def _add_delete(subparsers: Subparsers) -> None:
    made = _on_lun(subparsers, "delete", "delete:run", "remove a LUN and its exports; its data stays")
    made.add_argument("--force", action="store_true", help="even while it is mounted or an initiator uses it")
    made.add_argument("--no-save", action="store_true", help="do not save it for the next boot")


def _add_resize(subparsers: Subparsers) -> None:
    made = _on_lun(subparsers, "resize", "control:resize", "give a LUN another size while it is used")
    made.add_argument("size", type=size, help="bytes, or with K, M, G, T")
    made.add_argument("--shrink", action="store_true", help="allow a smaller size: what is behind it is lost")
    made.add_argument("--no-save", action="store_true", help="do not save it for the next boot")


def _add_drain(subparsers: Subparsers) -> None:
    told = "let the commands of a LUN end and close its storage; initiators wait until `restart`"
    made = _on_lun(subparsers, "drain", "control:drain", told)
    made.add_argument("--seconds", type=float, default=30.0, metavar="N", help="at most (default: 30)")


def _add_restart(subparsers: Subparsers) -> None:
    told = "serve a LUN with a new process, and open its storage anew; initiators see no error"
    _on_lun(subparsers, "restart", "control:restart", told)


def _add_faults(subparsers: Subparsers) -> None:
    told = "show or change the rules of a LUN's filter error, while it is used"
    made = _on_lun(subparsers, "faults", "faults:run", told)
    made.epilog = """examples:
  tcmu-runner faults vol0
  tcmu-runner faults vol0 --rule 'on = "read", offset = "1M", length = 512, sense = "3/11/00"'
  tcmu-runner faults vol0 --clear
"""
    rules = made.add_mutually_exclusive_group()
    rules.add_argument(
        "--rule", action="append", default=[], dest="rules", metavar="RULE",
        help="as in the settings of the filter; repeat it for more. Replaces all rules",
    )  # fmt: skip
    rules.add_argument("--clear", action="store_true", help="remove all rules")


def _add_list(subparsers: Subparsers) -> None:
    _command(subparsers, "list", "show:list_luns", "show all LUNs", json=True)


def _add_show(subparsers: Subparsers) -> None:
    _on_lun(subparsers, "show", "show:show", "show all about a LUN")


def _add_top(subparsers: Subparsers) -> None:
    made = _command(subparsers, "top", "top:run", "show what the LUNs do, live", json=True)
    made.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)"
    )
    made.add_argument("--count", type=int, default=0, metavar="N", help="end after N looks")


def _add_handlers(subparsers: Subparsers) -> None:
    made = _command(
        subparsers, "handlers", "show:handlers", "show the handlers that can store bytes", json=True
    )
    made.add_argument("name", nargs="?", help="only this one, with its whole description")


# -- without the kernel -------------------------------------------------------------------------------


def _add_check(subparsers: Subparsers) -> None:
    made = _command(
        subparsers, "check", "check:run",
        "check a config string or a settings file, or run the conformance kit on a handler", json=True,
        examples="""examples:
  tcmu-runner check file//srv/disk.img           # a config string: what it names is not touched
  tcmu-runner check /etc/tcmu/tcmu-runner.toml   # settings: also before an edit takes their place
  tcmu-runner check ./my_handler.py              # the kit
  tcmu-runner check file /var/tmp/scratch.img    # the kit

The kit writes to the handler's storage: what it holds is lost, so that needs --overwrite.
""",
    )  # fmt: skip
    add = made.add_argument
    add("handler", help="a config string; a settings file (*.toml); a handler's subtype, or a Python file "
        "that defines one")  # fmt: skip
    add("config", nargs="?", default="", help="its configuration: what follows SUBTYPE/")
    add("--size", type=size, help="bytes of the LUN, or with K, M, G (default: what the storage has, or 8M)")
    add("--overwrite", action="store_true", help="also where the storage holds something: it is lost")
    add("--block-size", type=int, default=512, metavar="N", help="512 (default) to 4096 bytes")
    add("--persistent", action="store_true", help="what was flushed has to survive a close")
    add("--forgets", action="store_true", help="it stores nothing: do not compare contents")


def _add_try(subparsers: Subparsers) -> None:
    made = _command(
        subparsers, "try", "try_:run",
        "serve a LUN of one handler over iSCSI on this machine, without kernel module or root",
        examples="""examples:
  tcmu-runner try ram --size 64M
  tcmu-runner try file /var/tmp/disk.img --size 1G --block-size 4096
  tcmu-runner try ./my_handler.py --size 64M --run 'iscsi-inq $uri'
""",
    )  # fmt: skip
    add = made.add_argument
    add("handler", help="a handler's subtype, or a Python file that defines one")
    add("config", nargs="?", default="", help="its configuration: what follows SUBTYPE/")
    add("--size", type=size, help="bytes, or with K, M, G, T (default: what the storage has, or 1G)")
    add("--block-size", type=int, default=512, metavar="N", help="512 (default) to 4096 bytes")
    add("--read-only", action="store_true", help="refuse writes")
    add("--removable", action="store_true", help="a medium that can be ejected")
    add("--serial", type=serial, help="its unit serial number, by which initiators know it again "
        "(default: a random one)")  # fmt: skip
    add("--run", metavar="COMMAND", help="run it by the shell, with the LUN's URL as $uri and, with --user, "
        "what libiscsi and QEMU read to log in, then end with its exit status")  # fmt: skip
    add("--filter", action="append", default=[], dest="layers", metavar="'NAME OPTION=VALUE ...'",
        help="put a filter above the handler; repeat it, the topmost first")  # fmt: skip
    add("--settings", type=Path, metavar="FILE", help="where stacks of filters are named")
    add("--port", type=int, default=0, help="TCP port (default: any free one)")
    add("--host", default="127.0.0.1", help="address to listen on; others than loopback need --user "
        "(default: 127.0.0.1)")  # fmt: skip
    add("--user", metavar="NAME", help="demand CHAP: this user, with a secret of 12 bytes or more in the "
        "environment variable CHAP_SECRET")  # fmt: skip
    add("--metrics", type=int, metavar="PORT", help="show a status page, and metrics for Prometheus, on this "
        "port of loopback; 0 is any free one")  # fmt: skip


def _add_overlay(subparsers: Subparsers) -> None:
    told = "show an overlay of the filter cow, empty it, or have it committed"
    made = _command(subparsers, "overlay", "overlay:run", told)
    made.add_argument("file", type=Path, help="the overlay: DIRECTORY/vol0.cow for vol0")
    made.add_argument(
        "act", nargs="?", choices=["show", "discard", "commit", "adopt"], default="show",
        help="show: how much it holds (the default). discard: all of it is forgotten. commit: it is written "
        "to the storage below when the device is served next. adopt: it belongs to the storage that it is "
        "served over next, whichever that is (also for files of cache and verify)",
    )  # fmt: skip


def _add_doctor(subparsers: Subparsers) -> None:
    told = "find what keeps LUNs from working, and print the commands that repair it"
    _command(subparsers, "doctor", "doctor:run", told, json=True)


def _add_release(subparsers: Subparsers) -> None:
    told = "after a crash of the daemon: end commands that wait for it, let initiators retry until it is back"
    made = _command(subparsers, "release", "release:run", told)
    made.add_argument(
        "--stay", action="store_true", help="stay until a daemon runs or no device is left, and end the wait "
        "of commands that unlink a LUN after 30 s",
    )  # fmt: skip


def _add_completion(subparsers: Subparsers) -> None:
    made = _command(
        subparsers, "completion", "manual:completion", "print a completion script for a shell",
        examples="""examples:
  tcmu-runner completion bash >/etc/bash_completion.d/tcmu-runner
""",
    )  # fmt: skip
    made.add_argument("shell", choices=("bash", "zsh"))


def _add_manual(subparsers: Subparsers) -> None:
    _command(subparsers, "manual", "manual:run", "print the manual page (man -l)")


def size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def serial(text: str) -> str:
    """A unit serial number: printable ASCII (SPC-5 4.3.1), of a length that LIO accepts."""
    if not (0 < len(text) < 254 and text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 253 printable ASCII characters")
    return text


def _open_files(text: str) -> int:
    if not text.isdigit() or int(text) not in OPEN_FILES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {OPEN_FILES[0]} to {OPEN_FILES[-1]}")
    return int(text)
