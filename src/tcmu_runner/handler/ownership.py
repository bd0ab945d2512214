"""Whether a process other than root's could change a file that root is about to run."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from tcmu_runner.errors import ConfigError

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH  # an ACL's mask stands in the group's bits (acl(5))


def check_ownership(path: Path) -> None:
    """Of a directory of handlers, or of a file there. Another user of the machine than root runs what is that
    user's own, so nothing is checked then. Raises ConfigError with the remedy, or OSError."""
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
