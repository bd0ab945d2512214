"""Documents: links lead somewhere, the site has each page, decisions are short and in their index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted(DOCS.glob("adr/0*.md"))
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
    assert dead_links(page) == []


def test_the_site_has_each_page() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    below_docs = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    of_the_root = {page.name.replace("README", "index") for page in ROOT.glob("*.md")}
    assert sorted(listed) == sorted(below_docs | of_the_root), "mkdocs.yml has the navigation"


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_is_short_and_in_the_index(page: Path) -> None:
    text, index = page.read_text(), (DOCS / "adr/README.md").read_text()
    number = int(page.name[:4])
    assert text.count("\n") <= LINES_OF_A_DECISION
    assert text.startswith(f"# {number}. ")
    assert index.count(f"| [{number}]({page.name}) |") == 1
    assert number == 1 or "What would change our mind: " in text


def test_decisions_that_are_named_exist() -> None:
    """As docs/adr/0003, with or without the rest of the name."""
    numbers = {page.name[:4] for page in DECISIONS}
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/**/*.txt")]
    named = [(name(file), re.findall(r"docs/adr/(\d{4})", file.read_text())) for file in sources]
    assert [(file, found) for file, found in named if not numbers.issuperset(found)] == []
