"""Errors whose way out is an option of the command that failed."""

import signal
from pathlib import Path

import pytest

from tcmu_runner.cli.hints import in_options
from tcmu_runner.cli.main import main


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("set hw_block_size=4096, or leave it", "set --block-size 4096, or leave it"),
        ("set dev_size to 512 or less", "set --size to 512 or less"),
        ("set a smaller dev_size", "set a smaller --size"),
        ("dev_size=1000 is not", "--size 1000 is not"),
        ("my_dev_size=1 and dev_sizes", "my_dev_size=1 and dev_sizes"),
    ],
)
def test_options_for_attributes(text: str, hint: str) -> None:
    assert in_options(text) == hint


@pytest.mark.parametrize("command", [["try"], ["check", "--overwrite"]], ids=["try", "check"])
def test_a_command_with_the_options_names_them(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(bytes(1 << 20))
    assert main([*command, "file", f"{path};read_only", "--size", "2M", "--block-size", "512"]) == 1
    told = "".join(capsys.readouterr())
    assert "set --size to 1048576 or less" in told
    assert "dev_size" not in told
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []), "a command that fails leaves no signal blocked"


def test_a_block_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "ram", "--block-size", "100"]) == 1
    assert "--block-size 100 is not one of" in capsys.readouterr().err
