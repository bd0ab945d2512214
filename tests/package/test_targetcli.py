"""Both versions of targetcli with our daemon: nobody has to change a habit."""

import json
import re
from pathlib import Path

import pytest
from support.configfs import TARGET, Backstore

from .conftest import UNIT, is_active, systemctl
from .targetcli import PYPI_HOME, VERSIONS, Targetcli

MIB = 1 << 20


@pytest.fixture(params=list(VERSIONS))
def targetcli(request: pytest.FixtureRequest) -> Targetcli:
    PYPI_HOME.mkdir(parents=True, exist_ok=True)
    return Targetcli(VERSIONS[request.param])


def test_the_life_of_a_lun(targetcli: Targetcli, tmp_path: Path) -> None:
    """From a daemon that does not run on: D-Bus starts it when targetcli asks."""
    systemctl("stop", UNIT)
    image, saved = tmp_path / "vol0.img", tmp_path / "saved.json"
    told = targetcli(
        f"/backstores/user:file create vol0 64M {image}",
        "/backstores/user:file create vol1 64M no/such/path",
        f"/backstores/user:file create vol2 64M {tmp_path}/a,b",
        "/backstores/user:file/vol0 set attribute dev_size=100663296",
        "/backstores/user:file ls",
        "/backstores ls",
        "/backstores/user:file help create",
        f"saveconfig {saved}",
    )
    assert is_active()
    assert "Created user-backed storage object vol0 size 67108864." in told
    assert "is not absolute: write file" in told  # our reason
    assert "contains ','" in told
    assert "A disk in a file" in told  # ConfigDesc
    assert {"user:file", "user:ram", "user:null"} <= set(re.findall(r"user:\w+", told))
    assert not {"user:HandlerManager1", "user:devices"} & set(re.findall(r"user:\w+", told))
    assert image.stat().st_size == 96 * MIB
    stored = {each["name"]: each for each in json.loads(saved.read_text())["storage_objects"]}
    assert list(stored) == ["vol0"]
    assert stored["vol0"]["config"] == f"file/{image}"
    assert stored["vol0"]["attributes"]["dev_size"] == 96 * MIB

    told = targetcli(
        "/backstores/user:file delete vol0", f"restoreconfig {saved}", "/backstores/user:file ls"
    )
    assert "Deleted storage object vol0." in told
    assert "Configuration restored" in told
    assert re.search(rf"vol0 .*{image} \(96\.0MiB\)", told)
    assert Backstore("vol0").show("attrib/dev_size") == str(96 * MIB)


def test_without_devices_nothing_is_left() -> None:
    assert not list((TARGET / "core").glob("user_*/*"))
