"""Generates the documentation of settings from the docstrings of the modules that parse them."""

from __future__ import annotations

import inspect
from types import ModuleType

from tcmu_runner.engine import overrides
from tcmu_runner.settings import tcmu_conf, tcmu_runner_toml

LIVE = """The daemon reads both files again when they are edited. `[devices]` and `[stacks]` take effect at
once: identity and limits for devices in use, stacks for devices that are opened later. The other tables
take effect when the daemon is restarted; initiators see no error. The daemon refuses a broken edit as a
whole: the log has the line and what to write, and the old settings stay. A start with a broken file uses
the settings of the last good start or edit. `tcmu-runner check FILE.toml` checks a file beforehand.
"""


def page() -> str:
    """Markdown."""
    sections = (
        ("/etc/tcmu/tcmu-runner.toml", tcmu_runner_toml, "toml"),
        ("[devices] of /etc/tcmu/tcmu-runner.toml", overrides, "toml"),
        ("/etc/tcmu/tcmu.conf", tcmu_conf, "ini"),
    )
    return "\n".join(("# Settings\n", LIVE, *(_section(*each) for each in sections)))


def _section(title: str, module: ModuleType, language: str) -> str:
    """The docstring's prose, and its example, which begins at the first line that is a setting or a table."""
    lines = (inspect.getdoc(module) or "").splitlines()
    is_example = [line.startswith(("[", "#")) or " = " in line for line in lines]
    first = is_example.index(True)
    last = len(lines) - is_example[::-1].index(True)
    example = "\n".join(lines[first:last])
    rest = "\n".join(lines[last:]).strip()
    told = "\n".join(lines[:first]).strip()
    return f"## {title}\n\n{told}\n\n```{language}\n{example}\n```\n" + (f"\n{rest}\n" if rest else "")
