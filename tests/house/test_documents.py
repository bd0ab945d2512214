"""Documents: links lead somewhere, the site has each page, decisions are short, the map is up to date."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted(DOCS.glob("adr/0*.md"))
MAP = DOCS / "architecture.md"
LINES_OF_A_DECISION = 80
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """As GitHub and mkdocs make them of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not (dead := dead_links(page)), f"no such file, or no such heading in it: {dead}"


def test_the_site_has_each_page() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    below_docs = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    of_the_root = {page.name.replace("README", "index") for page in ROOT.glob("*.md")}
    there = below_docs | of_the_root
    assert not (new := there - set(listed)), f"add to the navigation in mkdocs.yml: {new}"
    assert not (gone := set(listed) - there), f"remove from the navigation in mkdocs.yml: {gone}"
    assert len(listed) == len(there), f"mkdocs.yml names a page twice: {sorted(listed)}"


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_short_and_in_the_index(page: Path) -> None:
    text, index = page.read_text(), (DOCS / "adr/README.md").read_text()
    number = int(page.name[:4])
    assert text.count("\n") <= LINES_OF_A_DECISION, f"shorten it to {LINES_OF_A_DECISION} lines"
    assert text.startswith(f"# {number}. "), f"begin it with '# {number}. '"
    row = f"| [{number}]({page.name}) |"
    assert index.count(row) == 1, f"docs/adr/README.md needs one row that begins {row}"
    assert number == 1 or "What would change our mind: " in text, "add 'What would change our mind: '"


def test_decisions_that_are_named_exist() -> None:
    """As docs/adr/0003, with or without the rest of the name."""
    numbers = {page.name[:4] for page in DECISIONS}
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/**/*.txt")]
    named = {name(file): set(re.findall(r"docs/adr/(\d{4})", file.read_text())) for file in sources}
    unknown = {file: found - numbers for file, found in named.items() if found - numbers}
    assert not unknown, f"docs/adr has no decision with these numbers: {unknown}"


def test_the_map_names_modules_that_exist() -> None:
    """`engine/lun`, `guardian/`: in src/tcmu_runner; or `tests/unit`, in the whole tree."""
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*/?(?:/\w+\.\w+)?)(?:\.\w+)?`", MAP.read_text())
    paths = {each for each in named if "/" in each} - {"action/block_dev"}  # of configfs
    assert len(paths) > 50
    places = ROOT / "src/tcmu_runner", ROOT
    gone = {
        each
        for each in paths
        if not any((place / each).exists() or (place / f"{each}.py").exists() for place in places)
    }
    assert not gone, f"docs/architecture.md names files that are gone: {gone}"


def test_the_map_has_the_layers_of_the_contract() -> None:
    """Remarks stand at the end of a line, after two blanks."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = re.search(r"```text\n(.*?)```", MAP.read_text(), re.DOTALL)
    assert drawn, "docs/architecture.md has no block of layers"
    layers = [line.partition("  ")[0] for line in drawn[1].splitlines()]
    wanted = "\n".join(contracts[0]["layers"])
    assert "\n".join(layers) == wanted, (
        f"draw the layers of pyproject.toml in docs/architecture.md:\n{wanted}"
    )
