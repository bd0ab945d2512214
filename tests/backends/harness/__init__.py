"""Handlers and filters on real storage: each case goes through the same scenarios, on a LUN that a process of
its own serves over iSCSI on loopback (`tcmu-runner try`).

backend   what a LUN is stored in: files in an empty directory, and mostly a server that can be started,
          killed, frozen (SIGSTOP) and filled up.
case      a backend by name, the LUN on it, and which scenarios do not apply to it, each with its reason.
served    the process that serves the LUN; it can be killed and started again.
lun       an initiator's view of it: blocking commands that raise what the sense says.
writers   initiators that write all the time and know of every block which contents it may have.
scenario  one test function in test_scenarios.py.

To add one, write cases/NAME.py with a list CASES; nothing else has to be told of it:

    class VaultBackend(Backend):
        settings = '[stacks.vault]\\nhandler = "file"\\nfilters = [{ filter = "luks", ... }]'

        def start(self) -> None: ...                # with a server: derive from ServerBackend instead

        @property
        def config(self) -> str:
            return f"vault/{self.directory}/disk.img"

    CASES = [Case("luks", VaultBackend, without=NO_SERVER)]

What it needs installed goes into `test_backends` of ./dev. Run one case: ./dev test backends runs all;
.venv/bin/python -m pytest -o timeout=600 tests/backends -k NAME the cases whose name has NAME in it.
CI runs short scenarios; the full ones: BACKENDS_GONE_SECONDS=60 BACKENDS_KILLS=20 BACKENDS_COMMANDS=5000
BACKENDS_FIO_MIB=24.
A test fails on any log line of the serving process but those that Case.complaints expects while its backend
is away.
"""

from harness.backend import Backend, ServerBackend, stack
from harness.case import NO_SERVER, Case

__all__ = ["NO_SERVER", "Backend", "Case", "ServerBackend", "stack"]
