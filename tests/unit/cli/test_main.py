"""The command line as a whole: what other programs rely on, and what a start costs."""

import subprocess
import sys

import pytest

from tcmu_runner.cli.arguments import parser
from tcmu_runner.cli.main import main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tcmu_runner.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_version_is_one_line_that_ends_in_it() -> None:
    """gluster-block reads it with awk '{print $NF}' and wants 1.5.0 or more."""
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == "tcmu-runner"
    assert tuple(map(int, done.stdout.split()[-1].split("."))) >= (2, 0, 0)
    assert done.stdout.count("\n") == 1


def imported(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True).split())


def test_the_daemon_has_nothing_in_memory_that_only_commands_need() -> None:
    heavy = {"rich", "rtslib_fb", "shtab", "tcmu_runner.embedded", "tcmu_runner.cli.lio"}
    assert not heavy & imported("from tcmu_runner.cli import main, serve; main.parser()")


def test_the_version_needs_no_daemon() -> None:
    assert not {"asyncio", "tcmu_runner.daemon"} & imported("from tcmu_runner.cli import main; main.parser()")


def test_the_options_of_the_c_daemon() -> None:
    words = ["-d", "-f", "65536", "--handler-path", "/usr/lib/tcmu", "-l", "/srv/log"]
    options = parser().parse_args(words)
    assert (options.debug, options.nofile) == (True, 65536)
    assert (str(options.handler_path), str(options.tcmu_log_dir)) == ("/usr/lib/tcmu", "/srv/log")
    long_ones = ["--debug", "--nofile", "1048576", "--tcmu-log-dir", "/srv/log"]
    assert parser().parse_args(long_ones).nofile == 1048576


@pytest.mark.parametrize("number", ["65535", "1048577", "many"])
def test_a_number_of_files_that_cannot_be(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["-f", number])
    assert status.value.code == 2
    assert "is not a number from 65536 to 1048576" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m tcmu_runner.cli.main manual | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


COMMANDS = (
    "create delete resize list show top drain restart faults handlers check try overlay doctor release "
    "completion manual"
)


@pytest.mark.parametrize("command", COMMANDS.split())
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main([command, "--help"])
    assert status.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tcmu-runner {command}")
