"""targetcli as an administrator uses it: one start for many lines, since each takes its time."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSIONS = {"2.1.53": "/usr/bin/targetcli", "3.0.2": "/opt/targetcli/bin/targetcli"}
PYPI_HOME = Path("/etc/target/pr")  # rtslib's of PyPI; pip makes no such directory, and it does not either
SECONDS = 300.0


@dataclass(frozen=True)
class Targetcli:
    program: str = VERSIONS["2.1.53"]

    def __call__(self, *lines: str) -> str:
        """What it says to these lines. It must end by itself, with status 0 and without a traceback."""
        script = "\n".join(["set global auto_save_on_exit=false", *lines, "exit", ""])
        ended = subprocess.run(
            [self.program],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        print(ended.stdout)
        assert "Traceback" not in ended.stdout
        assert ended.returncode == 0
        return ended.stdout
