"""Every file of examples/ is a handler that works, and each says how it is tried."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler import Device, RawHandler
from tcmu_runner.handler.registry import AnyHandler, Registry
from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.sense import Status
from tcmu_runner.testing.conformance import check_class

EXAMPLES = Path(__file__).parents[3] / "examples"
CONFIGS = {"ram": "", "distant": "0", "counting": ""}


def load(name: str) -> AnyHandler:
    (handler,) = Registry().load_file(EXAMPLES / f"{name}.py")
    return handler


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_keeps_the_contract(name: str) -> None:
    report = check_class(load(name), CONFIGS[name], size=1 << 20)
    assert report.ok, str(report)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_says_how_it_is_tried(name: str) -> None:
    assert f"tcmu-runner try examples/{name}.py" in (EXAMPLES / f"{name}.py").read_text()


def test_they_can_be_had_together(tmp_path: Path) -> None:
    for example in EXAMPLES.glob("*.py"):  # root does not run those of a checkout that is another user's
        copyfile(example, tmp_path / example.name)
    handlers = Registry()
    handlers.load_directory(tmp_path)
    assert len(handlers) == len(CONFIGS)


@pytest.mark.parametrize("text", ["", "soon", "-1", "5;jitter=x", "5;speed=1"])
def test_distant_says_what_is_wrong(text: str) -> None:
    with pytest.raises(ConfigError):
        load("distant").parse(text)


def test_counting_answers_its_own_command() -> None:
    handler = load("counting").open(Device("test", 1 << 20), "")
    assert isinstance(handler, RawHandler)
    buffer = [memoryview(bytearray(512))]
    handler.read(buffer, 0)
    handler.write(buffer, 0)
    handler.write(buffer, 512)
    command = Command(bytes.fromhex("c1000000000000001000"), [memoryview(bytearray(16))], Nexus())
    assert handler.command(command) is Status.GOOD
    assert command.data[0].hex() == "0000000000000001" + "0000000000000002"
