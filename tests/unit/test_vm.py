"""The machines' parts that need no machine: where packages come from, and the parent of user-mode Linux."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from support.waiting import until

from vm import apt, host, image, kernels, kinds
from vm.warden import take_processor

LINE = "deb [signed-by=/k] http://mirror.example/debian bookworm main contrib"
STANZA = """Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k"""
SECURITY = STANZA.replace("bookworm bookworm-updates", "bookworm-security")
GUEST = """
import os, sys
console, agent = int(sys.argv[1]), int(sys.argv[2])
os.write(console, b"booted\\n")
while data := os.read(agent, 100):
    os.write(console, data)
    os.write(agent, data)
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Debian 12, and another's repository."""
    parts = tmp_path / "apt" / "sources.list.d"
    parts.mkdir(parents=True)
    (parts / "debian.sources").write_text(f"{STANZA}\n\n{SECURITY}\n")
    (parts / "foreign.list").write_text("deb https://foreign.example/debian nodistro main\n")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    monkeypatch.setattr(apt, "SOURCES", tmp_path / "apt")
    monkeypatch.setattr(apt, "OS_RELEASE", tmp_path / "os-release")
    return parts


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("bookworm", ["Suites: bookworm bookworm-updates", "Suites: bookworm-security"]),
        ("trixie", ["Suites: trixie trixie-updates", "Suites: trixie-security"]),
        ("sid", ["Suites: sid "]),
    ],
)
def test_sources_of_any_suite(sources: Path, tmp_path: Path, suite: str, expected: list[str]) -> None:
    (directory := tmp_path / "found").mkdir()
    (found,) = apt.sources(suite, directory)
    text = Path(found).read_text()
    assert [line for line in text.splitlines() if line.startswith("Suites:")] == expected
    assert "URIs: http://mirror.example/debian" in text


def test_a_line_is_rewritten_like_a_stanza() -> None:
    assert apt.translated(LINE, "bookworm", "trixie") == LINE.replace("bookworm", "trixie")
    assert apt.is_debian(LINE, "bookworm")
    assert not apt.is_debian(f"# {LINE}", "bookworm")


def test_a_host_without_debian_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text("ID=other\n")
    monkeypatch.setattr(apt, "SOURCES", tmp_path)
    monkeypatch.setattr(apt, "OS_RELEASE", tmp_path / "os-release")
    assert apt.sources("trixie", tmp_path) == []


def test_every_machine_has_an_image_of_its_release() -> None:
    assert {kind.release for kind in kinds.KINDS.values()} <= set(image.RELEASES)
    assert kinds.QEMU in kinds.KINDS
    assert {name for names in kinds.LINUX.values() for name in names} <= set(kinds.KINDS)


def test_a_kernel_is_one_that_runs_on_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux 6.12 as a program does not run on a processor with AMX; QEMU emulates another one."""
    (tmp_path / "lib/modules/6.12.0").mkdir(parents=True)
    monkeypatch.setattr(kernels, "ensure", lambda _suite: kernels.Kernel(tmp_path))
    monkeypatch.setattr(kernels, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags : fpu amx_tile avx\n")
    assert (kinds.resolve("linux-6.12"), kinds.resolve("linux-7.2")) == ("qemu-6.12", "uml-7.2")
    (tmp_path / "cpuinfo").write_text("flags : fpu avx\n")
    assert kinds.resolve("linux-6.12") == "uml-6.12"
    assert kinds.resolve("qemu-6.1") == "qemu-6.1"


@contextmanager
def warden(sockets: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a guest that says it has booted, and answers on the agent's line."""
    guest = [sys.executable, "-c", GUEST, "{console}", "{agent}"]
    command = [sys.executable, "-m", "vm.warden", str(sockets), str(sockets), *guest]
    with subprocess.Popen(command, cwd=host.CHECKOUT) as process:
        try:
            host.wait_for_sockets(sockets, process, sockets)
            yield process
        finally:
            process.terminate()


def test_the_lines_of_a_machine_serve_one_client_after_another(tmp_path: Path) -> None:
    with warden(tmp_path):
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(str(tmp_path / "agent"))
                client.sendall(b"request")
                answer = b""
                while not answer.endswith(b"request"):
                    answer += client.recv(100)
        log = tmp_path / "console.log"
        # Between the two it heard that the first one had left.
        until(lambda: b"booted\nrequest\nrequest" in log.read_bytes())


def test_a_machine_ends_with_its_warden(tmp_path: Path) -> None:
    with warden(tmp_path) as process, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(tmp_path / "agent"))
        client.sendall(b"request")
        assert client.recv(100) == b"request"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert client.recv(100) == b""


def test_machines_share_processors_evenly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "CACHE", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5})
    assert [take_processor() for _ in range(5)] == [2, 5, 2, 5, 2]


@pytest.mark.parametrize(("release", "flags", "runs"), [
    ("6.12.113", "sse2 amx_tile avx", False),
    ("6.12.113", "sse2 avx", True),
    ("7.2.7", "sse2 amx_tile avx", True),
])  # fmt: skip
def test_an_old_kernel_on_a_processor_with_amx_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str, flags: str, *, runs: bool
) -> None:
    (cpuinfo := tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(kernels, "CPUINFO", cpuinfo)
    kernel = kernels.Kernel(tmp_path)
    (kernel.modules / release).mkdir(parents=True)
    with nullcontext() if runs else pytest.raises(host.VmError, match="AMX: choose --machine uml"):
        kernel.check_host()
