"""Manual page and completion are what the arguments say, each time the same."""

import subprocess
from pathlib import Path

import pytest

from tcmu_runner.cli import manual

from .conftest import Command

ROOT = Path(__file__).parents[3]


def test_the_manual_page_is_up_to_date() -> None:
    page = (ROOT / "docs/man/tcmu-runner.8").read_text()
    assert page == manual.page(), "update it: tcmu-runner manual >docs/man/tcmu-runner.8"


def test_the_reference_of_commands_is_up_to_date() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    update = "python -c 'from tcmu_runner.cli import manual; print(manual.reference(), end=\"\")'"
    assert page == manual.reference(), f"update it: {update} >docs/reference/commands.md"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, command: Command) -> None:
    status, text, _ = command("completion", shell)
    assert (status, "--any-initiator" in text) == (0, True)


def test_bash_understands_its_completion(command: Command, tmp_path: Path) -> None:
    (script := tmp_path / "completion").write_text(command("completion", "bash")[1])
    ask = f'. {script}; COMP_WORDS=(tcmu-runner cr); COMP_CWORD=1; eval "$(complete -p tcmu-runner | \
sed "s/.*-F \\([^ ]*\\).*/\\1/")"; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert "create" in done.stdout.split(), done
