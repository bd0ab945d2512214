"""The log of several processes: where it goes, and how it is moved while they run."""

import logging
import stat
import subprocess
import sys
from pathlib import Path

PROGRAM = r"""
import logging, os, sys
from pathlib import Path
from tcmu_runner.logs import COMMANDS, Logs

logs = Logs()
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
logging.info("second line\nof\033one\udc80")
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
    assert words == ["before", "first", "00", "rotated", r"line\nof\x1bone\x80", "stays"]
    rotated = (tmp_path / "rotated").read_text().splitlines()
    assert [line.split()[-1] for line in rotated] == ["first", "rotated"]
    assert "[COMMAND] 28 00" in (tmp_path / "child").read_text()
    log = tmp_path / "tcmu-runner.log"
    assert [line.split()[-1] for line in log.read_text().splitlines()] == [r"line\nof\x1bone\x80", "stays"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_levels_are_those_of_tcmu_conf() -> None:
    from tcmu_runner.logs import LEVELS

    assert [logging.getLevelName(level) for level in LEVELS[:5]] == [
        "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG",
    ]  # fmt: skip
    assert LEVELS[5] < logging.DEBUG


FULL = """
import logging, os, sys
from pathlib import Path
from tcmu_runner.logs import Logs

logs = Logs()
logs.set_level(logging.INFO)
good = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
logs.follow(os.open("/dev/full", os.O_WRONLY))
for number in range(100):
    logging.info("message %d", number)
print(logs.trouble)
logs.follow(good)
logging.info("space again")
print(repr(logs.trouble))
"""


def test_a_full_log_is_one_line_until_it_can_be_written(tmp_path: Path) -> None:
    """/dev/full refuses each write with ENOSPC (full(4))."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log")], capture_output=True, text=True, check=True
    )
    others = [line for line in done.stderr.splitlines() if "[INFO]" not in line]
    assert len(others) == 2, others
    assert "the log cannot be written: No space left on device: free space" in others[0]
    assert "written again: lost 100 messages of this process" in others[1]
    assert done.stdout.splitlines() == [
        "the log cannot be written: No space left on device: free space, or correct log_dir", "''",
    ]  # fmt: skip
    assert [line.split("] ")[1] for line in (tmp_path / "log").read_text().splitlines()] == [
        "space again", "the log can be written again: lost 100 messages of this process",
    ]  # fmt: skip


def test_a_standard_error_that_nobody_reads_is_no_trouble(tmp_path: Path) -> None:
    program = f"{FULL}\nprint('lives on', file=open(sys.argv[1] + '.end', 'w'))"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.wait(60)
    assert (tmp_path / "log.end").read_text() == "lives on\n"
    assert "space again" in (tmp_path / "log").read_text()
