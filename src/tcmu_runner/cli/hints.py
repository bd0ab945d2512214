"""Turns remedies in error texts into options of the command line.

Handlers and the engine name the attributes of targetcli and configfs, dev_size and hw_block_size. Commands
that have --size and --block-size name these instead.
"""

from __future__ import annotations

import re

_OPTIONS = {"dev_size": "--size", "hw_block_size": "--block-size"}
_NAMED = re.compile(r"\b(dev_size|hw_block_size)\b(?:=(?=\S))?")


def in_options(text: str) -> str:
    """The text with options for attributes: `set hw_block_size=4096` becomes `set --block-size 4096`."""
    return _NAMED.sub(lambda found: _OPTIONS[found[1]] + (" " if found[0].endswith("=") else ""), text)
