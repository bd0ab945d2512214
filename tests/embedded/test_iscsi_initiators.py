"""Programs that people use: libiscsi's tools and QEMU's, with and without CHAP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.embedded import Credentials, Disk, Server, serve
from tcmu_runner.iscsi import framing
from tcmu_runner.iscsi.digest import Buffer
from tcmu_runner.iscsi.digest import digest as digest_of

SIZE = 64 << 20
SECRET = "twelve bytes"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(Disk("ram/", SIZE)) as server:
        yield server.url()


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "disk.raw"
    path.write_bytes(os.urandom(8 << 20) + bytes(SIZE - (8 << 20)))
    return path


def test_inquiry(url: str) -> None:
    assert "Peripheral Device Type:DIRECT_ACCESS" in run("iscsi-inq", url)
    assert "Unit Serial Number:" in run("iscsi-inq", "-e", "1", "-c", "128", url)


def test_capacity(url: str) -> None:
    assert f"Total size:{SIZE}" in run("iscsi-readcapacity16", url)


def test_discovery() -> None:
    with serve(Disk("ram/", SIZE), Disk("ram/", SIZE, 4096), portals=2) as server:
        listed = run("iscsi-ls", "-s", f"iscsi://{server.portals[0].address}")
    for portal in server.portals:
        assert f"Target:{server.target.name} Portal:{portal.address},{portal.group}" in listed
    assert listed.count("Lun:1") == 2


def test_qemu_convert_and_compare(url: str, image: Path, tmp_path: Path) -> None:
    assert "64 MiB" in run("qemu-img", "info", url)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, url)
    back = tmp_path / "back.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", url, back)
    assert back.read_bytes() == image.read_bytes()


def test_qemu_io(url: str) -> None:
    """Writes, zeroes and discards, then looks."""
    commands = ["write -P 0xa5 1M 3M", "write -z 2M 64k", "discard 3M 64k", "flush"]
    looks = ["read -P 0xa5 1M 1M", "read -P 0 2M 64k", "read -P 0 3M 64k", "read -P 0xa5 3136k 64k"]
    options = [word for command in [*commands, *looks] for word in ("-c", command)]
    assert "failed" not in run("qemu-io", "-f", "raw", *options, url)


def test_copy_between_units() -> None:
    """From one LUN to another of the same target, in 2 MiB pieces, eight under way."""
    with serve(Disk("ram/", SIZE), Disk("ram/", SIZE)) as server:
        source, destination = server.url(0), server.url(1)
        run("qemu-io", "-f", "raw", "-c", f"write -P 0x5a 0 {SIZE}", source)
        run("qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw", source, destination)
        assert "failed" not in run("qemu-io", "-f", "raw", "-c", f"read -P 0x5a 0 {SIZE}", destination)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    credentials = Credentials({"alice": SECRET.replace(" ", "-")}, "disk", "another-secret")
    with serve(Disk("ram/", SIZE), credentials=credentials) as server:
        yield server


@pytest.mark.parametrize("mutual", ["", "?target_user=disk&target_password=another-secret"])
def test_chap(guarded: Server, mutual: str) -> None:
    url = guarded.url().replace("://", f"://alice%{SECRET.replace(' ', '-')}@") + mutual
    assert "DIRECT_ACCESS" in run("iscsi-inq", url)


@pytest.mark.parametrize("secret", ["p@ss?w%rd/with#all&of=them", "long" * 50])
@pytest.mark.parametrize("command", ["iscsi-inq $uri", "qemu-img info $uri"])
def test_any_secret_reaches_the_command_of_try(command: str, secret: str) -> None:
    program = [sys.executable, "-m", "tcmu_runner.cli.main", "try", "ram", "--size", "1M", "--user", "b@b"]
    environment = {**os.environ, "CHAP_SECRET": secret}
    done = subprocess.run(
        [*program, "--run", command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("user", ["", "alice%wrong-secret@", "bob%twelve-bytes@"])
def test_wrong_secrets(guarded: Server, user: str) -> None:
    done = subprocess.run(
        ["iscsi-inq", guarded.url().replace("://", f"://{user}")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode
    assert "Authentication failure" in done.stdout + done.stderr


def test_a_target_that_is_not_who_it_should_be(guarded: Server) -> None:
    url = guarded.url().replace("://", f"://alice%{SECRET.replace(' ', '-')}@")
    wrong = f"{url}?target_user=disk&target_password=not-its-secret"
    assert subprocess.run(["iscsi-inq", wrong], capture_output=True, timeout=60).returncode


def of_qemu(server: Server, **options: str) -> str:
    """What -blockdev takes, as a file name; URLs have no digests in them."""
    portal = server.portals[0].address
    who = {"driver": "iscsi", "transport": "tcp", "portal": portal, "target": server.target.name}
    return "json:" + json.dumps({"driver": "raw", "file": {**who, "lun": 0, **options}})


@pytest.mark.parametrize("digest", ["none", "crc32c"])
def test_header_digests_and_large_transfers(digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is larger than a burst, and than what one SCSI command may move. QEMU's initiator knows
    no data digests; the kernel's in tests/vm/test_embedded.py does."""
    checked = 0

    def digest_counted(*parts: Buffer) -> bytes:
        nonlocal checked
        checked += 1
        return digest_of(*parts)

    monkeypatch.setattr(framing, "digest", digest_counted)
    with serve(Disk("ram/", SIZE)) as server:
        commands = ["write -P 0xa5 0 40M", "aio_write -P 0x3c 41M 9M", "aio_flush", "flush"]
        looks = ["read -P 0xa5 0 40M", "read -P 0 40M 1M", "read -P 0x3c 41M 9M"]
        options = [word for command in [*commands, *looks] for word in ("-c", command)]
        said = run("qemu-io", *options, of_qemu(server, **{"header-digest": digest}))
        assert "failed" not in said
        assert said.count("40 MiB, 1 ops") == 2
    assert (checked > 0) == (digest != "none")


def test_qemu_with_chap(guarded: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET.replace(" ", "-"))
    secret = ("--object", f"secret,id=s,file={tmp_path}/secret")
    url = of_qemu(guarded, user="alice", **{"password-secret": "s"})
    assert "64 MiB" in run("qemu-img", "info", *secret, url)
    assert "failed" not in run("qemu-io", *secret, "-c", "write -P 7 1M 1M", "-c", "read -P 7 1M 1M", url)
