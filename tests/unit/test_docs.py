"""What the documentation says is what the code does."""

import re
from pathlib import Path

import pytest

from tcmu_runner import settings
from tcmu_runner.handler import reference
from tcmu_runner.scsi.reference import commands
from tcmu_runner.settings import tcmu_conf
from tcmu_runner.settings.reference import page as settings_page

DOCS = Path(__file__).parents[2] / "docs"
UPDATE = "python -c 'from tcmu_runner.scsi.reference import commands; print(commands(), end=\"\")'"


def test_the_table_of_commands_is_the_opcode_table() -> None:
    page = (DOCS / "reference/scsi-commands.md").read_text()
    assert page.partition("| Opcode")[1:] == commands().partition("| Opcode")[1:], f"update it: {UPDATE}"


@pytest.mark.parametrize("kind", ["handlers", "filters"])
def test_the_pages_of_handlers_and_filters_are_their_docstrings(kind: str) -> None:
    page = (DOCS / f"reference/{kind}.md").read_text()
    update = f"python -c 'from tcmu_runner.handler import reference; print(reference.{kind}(), end=\"\")'"
    found, expected = page.partition("\n## ")[2], getattr(reference, kind)().partition("## ")[2]
    assert found == expected, f"update it: {update}"


def test_the_page_of_settings_is_their_docstrings() -> None:
    update = "python -c 'from tcmu_runner.settings import reference; print(reference.page(), end=\"\")'"
    assert (DOCS / "reference/settings.md").read_text() == settings_page(), f"update it: {update}"


def test_the_settings_shown_are_settings() -> None:
    """What the documentation shows can be written into the files as it is."""
    toml, devices, conf = re.findall(r"^```(?:toml|ini)\n(.*?)^```", settings_page(), re.M | re.S)
    shown = settings.parse(
        toml.replace('filter = "luks", key_file = "/etc/tcmu/vault.key"', 'filter = "readonly"')
    )
    assert shown.workers.user == "tcmu"
    assert settings.parse(devices).devices.of("user_0/vol0").limits["max_unmap"] == 65536
    assert tcmu_conf.parse(conf).log_level == 3
