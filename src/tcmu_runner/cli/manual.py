"""Generates the manual page and shell completion from the arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import version

from tcmu_runner.cli.arguments import parser
from tcmu_runner.cli.optional import need

FILES = (
    ("/etc/tcmu/tcmu.conf", "log_level and log_dir, as the C daemon reads them"),
    ("/etc/tcmu/tcmu-runner.toml", "everything else: workers, devices, stacks of filters"),
    ("/var/log/tcmu-runner.log", "the log"),
    ("/run/tcmu.lock", "says which daemon serves this machine"),
    ("/run/tcmu-runner/control.sock", "where our commands ask without D-Bus; only root"),
    ("/run/tcmu-runner/units", "what initiators rely on, for the next worker or daemon"),
    ("/var/lib/tcmu-runner/units", "and of that what outlasts a reboot"),
)


def completion(options: argparse.Namespace) -> int:
    print(need("shtab").complete(parser(), shell=options.shell))
    return 0


def run(_options: argparse.Namespace) -> int:
    print(page(), end="")
    return 0


def page() -> str:
    """The page in man(7); equal input gives equal text."""
    return "\n".join(_lines(parser())) + "\n"


def _lines(top: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH TCMU\\-RUNNER 8 "" "tcmu\\-runner {version("tcmu-runner")}" "System Administration"'
    yield from (".SH NAME", "tcmu\\-runner \\- serve SCSI disks from userspace", ".SH SYNOPSIS")
    yield from _synopsis("tcmu-runner", top)
    subcommands = _subcommands(top)
    for name, command in subcommands.items():
        yield from (".br", *_synopsis(f"tcmu-runner {name}", command))
    yield from (".SH DESCRIPTION", _escape(top.description or ""), ".SH OPTIONS", *_options(top))
    yield ".SH SUBCOMMANDS"
    for name, command in subcommands.items():
        yield from (f".SS {_escape(name)}", _escape(command.description or ""), *_options(command))
        yield from _verbatim(command.epilog or "")
    yield ".SH FILES"
    for path, told in FILES:
        yield from (".TP", f".I {_escape(path)}", _escape(told))
    yield from (".SH EXIT STATUS", *_verbatim((top.epilog or "").partition("\n")[2]))
    yield from (".SH SEE ALSO", ".BR targetcli (8),", ".BR targetctl (8)")


def reference() -> str:
    """Markdown with a section for each command; equal input gives equal text."""
    return "\n".join(_sections(parser())) + "\n"


def _sections(top: argparse.ArgumentParser) -> Iterator[str]:
    yield "# Commands\n\nGenerated from `tcmu_runner.cli.arguments`, as `tcmu-runner COMMAND --help` is.\n"
    yield from _section("tcmu-runner", top)
    for name, command in _subcommands(top).items():
        yield from _section(f"tcmu-runner {name}", command)


def _section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}\n\n{command.description}\n\n| argument | |\n|---|---|"
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            names = _names(action, all_of_them=True).replace("|", "\\|")
            yield f"| `{names}` | {_help(action)} |"
    if command.epilog:
        yield "\n```text\n" + command.epilog.rstrip() + "\n```"
    yield ""


def _subcommands(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _synopsis(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f".B {_escape(name)}"
    for action in command._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        text = _escape(_names(action))
        required = action.required and action.nargs != "?"
        yield text if required else f"[{text}]"


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if not isinstance(action, argparse._SubParsersAction):
            yield from (".TP", f".B {_escape(_names(action, all_of_them=True))}", _escape(_help(action)))


def _names(action: argparse.Action, *, all_of_them: bool = False) -> str:
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else None)
    if not action.option_strings:
        return str(value or action.dest.upper())
    names = ", ".join(action.option_strings) if all_of_them else action.option_strings[-1]
    return names if action.nargs == 0 else f"{names} {value or action.dest.upper()}"


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")


def _verbatim(text: str) -> Iterator[str]:
    if text:
        yield from (".PP", ".nf", *(_escape(line) for line in text.rstrip().splitlines()), ".fi")


def _escape(text: str) -> str:
    """Escapes text for groff: hyphens, backslashes, and a period or quote that would begin a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
