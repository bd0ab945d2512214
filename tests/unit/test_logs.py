"""The log of several processes: where it goes, and how it is moved while they run."""

import logging
import stat
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging, os, sys
from pathlib import Path
from tcmu_runner.logs import COMMANDS, Log

logs = Log()
logs.set_level(logging.INFO)
logging.info("before")
first = Path(sys.argv[1])
logs.write_to(first)
logging.info("first")
logging.debug("too quiet")
if os.fork() == 0:
    logs.set_level(COMMANDS)
    logs.follow(os.open(first / "child", os.O_WRONLY | os.O_CREAT))
    logging.log(COMMANDS, "28 00")
    os._exit(0)
os.wait()
(first / "tcmu-runner.log").rename(first / "rotated")
logging.info("rotated")
logs.write_to(first)
logging.info("second \\udc80")
try:
    logs.write_to(first / "absent")
except OSError:
    logging.error("stays")
"""


def test_the_file_moves_and_the_processes_follow(tmp_path: Path) -> None:
    """In a process of its own: the root logger is everybody's."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
    )
    words = [line.split()[-1] for line in done.stderr.splitlines()]
    assert words == ["before", "first", "00", "rotated", "\\udc80", "stays"]
    rotated = (tmp_path / "rotated").read_text().splitlines()
    assert [line.split()[-1] for line in rotated] == ["first", "rotated"]
    assert "[COMMAND] 28 00" in (tmp_path / "child").read_text()
    log = tmp_path / "tcmu-runner.log"
    assert [line.split()[-1] for line in log.read_text().splitlines()] == ["\\udc80", "stays"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_levels_are_those_of_tcmu_conf() -> None:
    from tcmu_runner.logs import LEVELS

    assert [logging.getLevelName(level) for level in LEVELS[:5]] == [
        "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG",
    ]  # fmt: skip
    assert LEVELS[5] < logging.DEBUG
