"""Refuses handler files that a process without root's rights could change: root is about to run them."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from tcmu_runner.errors import ConfigError

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH  # the group's bits also hold an ACL's mask (acl(5))


def check_ownership(path: Path) -> None:
    """Checks a directory of handlers, or a file in it. Does nothing unless we are root: other users run their
    own files. Raises ConfigError with the remedy, or OSError."""
    if os.geteuid() != 0:
        return
    found, quoted = path.stat(), shlex.quote(str(path))
    owner, mode = found.st_uid, stat.S_IMODE(found.st_mode)
    remedies = [f"chown root {quoted}"] if owner else []
    if mode & _WRITABLE:
        remedies.append(f"chmod go-w {quoted}")
    if remedies:
        raise ConfigError(
            f"no handler of {path} is loaded: it belongs to user {owner}, with mode {mode:04o}, and others "
            f"than root could change what root runs: {' && '.join(remedies)}"
        )
