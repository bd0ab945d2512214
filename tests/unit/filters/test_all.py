"""What holds for every filter there is."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

import pytest

from tcmu_runner.engine.storage.stack import Stack
from tcmu_runner.handler.device import Device
from tcmu_runner.handler.filter import GROUP
from tcmu_runner.scsi.operations import Operation, Read, Remote
from tcmu_runner.scsi.unit import Unit
from tcmu_runner.testing.stacked import definition

SIZE = 8 << 20


def options(name: str, directory: Path) -> dict[str, object]:
    (directory / "key").write_bytes(b"key")
    luks = {"key_file": f"{directory}/key", "create": True, "kdf": "pbkdf2", "kdf_time": 1000, "header": "1M"}
    beside: dict[str, object] = {"directory": str(directory)}
    tables: dict[str, dict[str, object]] = {
        "cache": beside, "cow": beside, "verify": beside, "offset": {"offset": "1M"},
        "luks": luks, "rate": {"operations": 1000},
    }  # fmt: skip
    return tables.get(name, {})


@pytest.mark.parametrize("name", sorted(entry.name for entry in entry_points(group=GROUP)))
def test_a_copy_to_another_lun_passes(name: str, tmp_path: Path) -> None:
    """EXTENDED COPY: what it does on the other LUN is none of this one's filters' business."""
    made, config = definition("ram/", (name, options(name, tmp_path)))
    stack = Stack.open(made, config, Device("disk", SIZE))
    other, reading = cast(Unit, object()), Read(0, [memoryview(bytearray(512))])
    met: list[tuple[Unit, Operation]] = []
    stack.perform(lambda unit, operation: met.append((unit, operation)))(Remote(other, reading))
    stack.close()
    assert met == [(other, reading)]
