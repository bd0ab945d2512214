"""The settings for the documentation, generated from the docstrings of the modules that read them."""

from __future__ import annotations

import inspect
from types import ModuleType

from tcmu_runner.engine import overrides
from tcmu_runner.settings import tcmu_conf, tcmu_runner_toml

LIVE = """Both files are noticed when they are edited. `[devices]` and `[stacks]` take effect at once:
identity and limits of devices that are served, and stacks for devices that are opened from then on. The other
tables take effect when the daemon is restarted, of which no initiator sees an error. A broken edit is refused
as a whole: the log names its line and what to write, and the old settings stay. So it is at the start, where
those of the last good start or edit count. `tcmu-runner check FILE.toml` tells beforehand.
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
