"""What the documentation says is what the code does."""

import re
from pathlib import Path

import pytest

from tcmu_runner import settings
from tcmu_runner.handler import reference
from tcmu_runner.iscsi.keys import KEYS, Use
from tcmu_runner.scsi import unit_state
from tcmu_runner.scsi.command import Nexus
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.reference import cdb_bits, commands
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.settings import tcmu_conf
from tcmu_runner.settings.reference import page as settings_page

USES = {Use.LEADING_ONLY: "LO", Use.INITIAL_ONLY: "IO", Use.ALL: "ALL"}
DOCS = Path(__file__).parents[2] / "docs"
UPDATE = (
    "docs/reference/%s.md is behind, below its head: "
    "python -c 'from tcmu_runner.scsi.reference import %s as page; print(page(), end=\"\")'"
)


def test_the_table_of_commands_is_the_opcode_table() -> None:
    page = (DOCS / "reference/scsi-commands.md").read_text()
    update = UPDATE % ("scsi-commands", "commands")
    assert page.partition("| Opcode")[1:] == commands().partition("| Opcode")[1:], update


def test_the_table_of_what_a_lun_remembers_is_what_is_kept() -> None:
    page = (DOCS / "reference/unit-state.md").read_text()
    rows = re.findall(r"^\| (?!Fact|---)(.*) \| `(\w+)` \|$", page, re.M)
    unit = Unit(512, 1 << 20, DISK, Capabilities(write=True, flush=True))
    assert {key for _, key in rows} == set(unit_state.taken(unit, Nexus()))
    assert {key for row, key in rows if "**" in row} == set(unit_state.LASTING)


def test_the_decisions_about_bits_are_those_of_the_opcode_table() -> None:
    page = (DOCS / "reference/cdb-bits.md").read_text()
    update = UPDATE % ("cdb-bits", "cdb_bits")
    assert page.partition("## Refused")[1:] == cdb_bits().partition("## Refused")[1:], update


@pytest.mark.parametrize("kind", ["handlers", "filters"])
def test_the_pages_of_handlers_and_filters_are_their_docstrings(kind: str) -> None:
    page = (DOCS / f"reference/{kind}.md").read_text()
    update = f"python -c 'from tcmu_runner.handler import reference; print(reference.{kind}(), end=\"\")'"
    found, expected = page.partition("\n## ")[2], getattr(reference, kind)().partition("## ")[2]
    assert found == expected, f"update it: {update}"


def test_the_table_of_iscsi_keys_is_the_code() -> None:
    page = (DOCS / "reference/iscsi.md").read_text()
    rows = re.findall(r"^\| `(\S+)` \| (LO|IO|ALL) \| \w+ \| .* \| (.*) \|$", page, re.M)
    assert {name: (use, "Irrelevant" in discovery) for name, use, discovery in rows} == {
        name: (USES[key.use], key.normal) for name, key in KEYS.items()
    }


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
