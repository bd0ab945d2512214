"""What mkdocs.yml needs beside the pages below docs/: the documents at the root of the tree are pages, too.

All of them link to each other as the repository has them. Here the links follow the pages to where the site
has them.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {  # by their names in the repository
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}
FROM_ROOT = re.compile(r"(?<=\]\()docs/")
TO_ROOT = re.compile(rf"(?<=\]\()((?:\.\./)*)({'|'.join(map(re.escape, PAGES))})(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=FROM_ROOT.sub("", (ROOT / name).read_text())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page below docs/ climbs one step more to the root of the tree than to that of the site."""
    below_docs = page.file.src_uri not in PAGES.values()

    def moved(link: re.Match[str]) -> str:
        steps, name = link.groups()
        if below_docs and steps.count("../") != page.file.src_uri.count("/") + 1:
            return link[0]  # a page of the same name beside it, such as adr/README.md
        return (steps.removeprefix("../") if below_docs else steps) + PAGES[name]

    return TO_ROOT.sub(moved, markdown)
