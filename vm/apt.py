"""The host's own Debian sources: the image comes from where the host's packages come from."""

import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path("/etc/apt")


def sources(suite: str, directory: Path) -> list[str]:
    """Arguments for mmdebstrap: source files with what the host has of Debian `suite`, put in `directory`.

    Foreign repositories stay out. Empty when the host has none: mmdebstrap's own default serves then.
    """
    found = []
    for index, (name, text) in enumerate(host_sources(suite)):
        copy = directory / f"{index}-{name}"
        copy.write_text(text)
        found.append(str(copy))
    return found


def host_sources(suite: str) -> Iterator[tuple[str, str]]:
    for path in [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        entries = re.split(r"\n\s*\n" if path.suffix == ".sources" else r"\n", path.read_text())
        kept = [entry for entry in entries if is_debian(entry, suite)]
        if kept:
            yield path.name, ("\n\n" if path.suffix == ".sources" else "\n").join(kept) + "\n"


def is_debian(entry: str, suite: str) -> bool:
    """Whether a line or stanza offers packages of `suite` (or its updates) in Debian's component main."""
    words = " ".join(line for line in entry.splitlines() if not line.lstrip().startswith("#")).split()
    offered = {suite, f"{suite}-updates", f"{suite}-security"}
    enabled = not re.search(r"^Enabled:\s*(no|false|0)\s*$", entry, re.IGNORECASE | re.MULTILINE)
    return enabled and "deb" in words and "main" in words and not offered.isdisjoint(words)
