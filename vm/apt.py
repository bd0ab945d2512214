"""Packages of any Debian suite, from where the host's own come from: its sources, downloads without root."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vm.host import VmError

SOURCES = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
UNSTABLE = "sid"
"""Unlike a release it has neither updates nor a security archive beside it."""


def sources(suite: str, directory: Path) -> list[str]:
    """Files for mmdebstrap or apt, written to `directory`: what the host has of Debian `suite`.

    Foreign repositories stay out. Where the host has no such entry, the entries of its own suite serve, with
    the name of `suite` in them. Empty on a host that is no Debian: mmdebstrap's own default serves then.
    """
    found = []
    for index, (name, text) in enumerate(host_sources(suite) or translated_sources(suite)):
        copy = directory / f"{index}-{name}"
        copy.write_text(text)
        found.append(str(copy))
    return found


def freshness() -> list[str]:
    """Option of mmdebstrap: the host's own word, if it has one, on an archive that has not been renewed for
    long.
    """
    asked = ["apt-config", "dump", "--format=%v", "Acquire::Check-Valid-Until"]
    value = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False).stdout
    return [f'--aptopt=Acquire::Check-Valid-Until "{value}"'] if value else []


def host_sources(suite: str) -> list[tuple[str, str]]:
    """Name and text of each of the host's source files, reduced to the entries for `suite`."""
    found = []
    for path, entries in host_entries():
        if kept := [entry for entry in entries if is_debian(entry, suite)]:
            found.append((path.name, joined(path, kept)))
    return found


def translated_sources(suite: str) -> list[tuple[str, str]]:
    """The entries of the host's own suite, rewritten for `suite`."""
    own = host_suite()
    found = []
    for path, entries in host_entries():
        kept = [translated(entry, own, suite) for entry in entries if own and is_debian(entry, own)]
        if kept := [entry for entry in kept if is_debian(entry, suite)]:
            found.append((path.name, joined(path, kept)))
    return found


def host_entries() -> Iterator[tuple[Path, list[str]]]:
    """The entries of each source file: lines of a *.list, stanzas of a *.sources."""
    for path in [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            yield path, re.split(r"\n\s*\n" if path.suffix == ".sources" else r"\n", path.read_text())


def joined(path: Path, entries: list[str]) -> str:
    return ("\n\n" if path.suffix == ".sources" else "\n").join(entries) + "\n"


def host_suite() -> str:
    """The code name of the host's release, empty where it is none of Debian's."""
    found = re.search(r"^VERSION_CODENAME=(\w+)$", OS_RELEASE.read_text(), re.MULTILINE)
    return found[1] if found else ""


def translated(entry: str, own: str, suite: str) -> str:
    """`entry` with the suites of release `own` replaced by those of `suite`."""
    if suite == UNSTABLE:
        entry = re.sub(rf"\b{own}-(updates|security)\b", "", entry)
    return re.sub(rf"\b{own}\b", suite, entry)


def is_debian(entry: str, suite: str) -> bool:
    """Whether a line or stanza offers packages of `suite` (or its updates) in Debian's component main."""
    words = " ".join(line for line in entry.splitlines() if not line.lstrip().startswith("#")).split()
    offered = {suite, f"{suite}-updates", f"{suite}-security"}
    enabled = not re.search(r"^Enabled:\s*(no|false|0)\s*$", entry, re.IGNORECASE | re.MULTILINE)
    return enabled and "deb" in words and "main" in words and not offered.isdisjoint(words)


class Archive:
    """A suite's packages, downloaded as any user: apt with state and cache in a directory of its own."""

    def __init__(self, suite: str, directory: Path) -> None:
        """Fetches the package lists. Raises VmError where the host has no sources for them."""
        self.directory = directory
        self.options: list[str] = []
        parts, lists, cache = (directory / name for name in ("sources", "lists", "cache"))
        for made in (parts, lists / "partial", cache / "archives" / "partial"):
            made.mkdir(parents=True)
        if not sources(suite, parts):
            raise VmError(f"no apt sources for Debian {suite} on this host; add them to {SOURCES}")
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": parts,
            "Dir::State::Lists": lists,
            "Dir::Cache": cache,
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "APT::Default-Release": "",
        }
        for name, value in settings.items():
            self.options += ["-o", f"{name}={value}"]
        self.get("update")

    def get(self, *words: str, cwd: Path | None = None) -> str:
        """One run of apt-get; returns what it printed."""
        command = ["apt-get", "-qq", *self.options, *words]
        ran = subprocess.run(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=False
        )
        if ran.returncode != 0:
            raise VmError(f"apt failed in: {' '.join(command)}")
        return ran.stdout

    def download(self, directory: Path, *packages: str) -> list[Path]:
        """The packages' files, into `directory`. Their dependencies are not followed."""
        directory.mkdir(parents=True, exist_ok=True)
        self.get("download", *packages, cwd=directory)
        return sorted(directory.glob("*.deb"))

    def download_with_dependencies(self, *packages: str) -> list[Path]:
        """The files of the packages and of all that they depend on."""
        (status := self.directory / "status").touch()  # nothing is installed yet
        self.get(
            "--download-only",
            "--no-install-recommends",
            "-o",
            f"Dir::State::status={status}",
            "install",
            *packages,
        )
        return sorted((self.directory / "cache" / "archives").glob("*.deb"))


def unpack(package: Path, target: Path) -> None:
    """The files of a package, as this user's own, without running its scripts."""
    target.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        options = ["--keep-directory-symlink", "--no-same-owner"]
        options += [f"--exclude=./usr/share/{unread}" for unread in ("doc", "man", "locale", "zoneinfo")]
        subprocess.run(["tar", "-x", "-C", target, *options], stdin=reader.stdout, check=True)
    if reader.returncode != 0:
        raise VmError(f"{package} cannot be unpacked")
