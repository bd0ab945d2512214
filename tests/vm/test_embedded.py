"""The kernel's own iSCSI initiator and a LUN of the embedded mode: no LIO, and no daemon."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import disk as bytes_of
from support.deadline import GENEROUS, command
from support.fio import Job, verify, verifying
from support.fixtures import MIB
from support.iscsi import Initiator

DISCOVERY = ("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-o", "nonpersistent", "-p")
TREE = Path("/usr/lib/python3.11/email")


@dataclass(frozen=True)
class Embedded:
    """A target of `tcmu-runner try`."""

    portal: str
    iqn: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait(GENEROUS)


@contextmanager
def trying(*arguments: str | Path, **environment: str) -> Iterator[Embedded]:
    """Runs it in a process of its own, which has nothing to complain of, and ends it unless it was killed."""
    process = subprocess.Popen(
        ["tcmu-runner", "try", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        found = re.search(
            r"iscsi://(?:[^@/]+@)?([^/]+)/([^/]+)/0",
            "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n")),
        )
        assert found, "it does not say how to reach it"
        portal, iqn = found.groups()
        yield Embedded(portal, iqn, process)
    finally:
        killed = process.poll() == -signal.SIGKILL
        process.terminate()
        _, complaints = process.communicate(timeout=GENEROUS)
    assert (process.returncode, complaints) == (-signal.SIGKILL if killed else 0, "")


@pytest.mark.parametrize("block_size", [512, 4096])
def test_a_file_system_survives(block_size: int, tmp_path: Path) -> None:
    mountpoint, initiator = tmp_path / "mnt", Initiator()
    mountpoint.mkdir()
    image = tmp_path / "disk.img"
    with trying("file", image, "--size", "128M", "--block-size", str(block_size)) as target:
        assert target.iqn in command(*DISCOVERY, target.portal)
        disk = initiator.login(target)
        assert command("blockdev", "--getss", disk).strip() == str(block_size)
        command("mkfs.ext4", "-q", "-F", disk)
        command("mount", disk, mountpoint)
        try:
            command("cp", "-r", TREE, mountpoint / "tree")
        finally:
            command("umount", mountpoint)
        command("fsck.ext4", "-f", "-n", disk)
        initiator.logout(target)
    command("mount", "-o", "loop,ro", image, mountpoint)  # what reached the file
    try:
        command("diff", "-r", TREE, mountpoint / "tree")
    finally:
        command("umount", mountpoint)


def test_verified_writes() -> None:
    initiator = Initiator()
    with trying("ram", "--size", "64M") as target:
        counts = verify(Job(initiator.login(target), 1 * MIB))
        assert counts.written == counts.read == 1 * MIB // 4096
        initiator.logout(target)


def test_a_portal_that_is_killed_and_started_again_is_only_a_pause(tmp_path: Path) -> None:
    """The initiator logs in again, and nobody above it hears of it."""
    initiator = Initiator()
    arguments = ("file", tmp_path / "disk.img", "--size", "64M", "--port", "3262")
    with ExitStack() as portals:
        target = portals.enter_context(trying(*arguments))
        with verifying(Job(initiator.login(target), 1 * MIB)) as load:
            for _ in range(2):
                load.progress()
                target.kill()
                target = portals.enter_context(trying(*arguments))
                load.progress()
        initiator.logout(target)


DIGESTS = {f"conn[0].iscsi.{kind}Digest": "CRC32C" for kind in ("Header", "Data")}
CHAP = {"authmethod": "CHAP", "username": "alice", "password": "twelve-bytes"}
SETTINGS = {**DIGESTS, **{f"session.auth.{name}": value for name, value in CHAP.items()}}


def test_chap_and_both_digests() -> None:
    """Large transfers among them: they come in bursts, asked for by R2T."""
    initiator = Initiator()
    with trying("ram", "--size", "64M", "--user", "alice", CHAP_SECRET=CHAP["password"]) as target:
        disk = initiator.login(target, settings=SETTINGS)
        told = command("iscsiadm", "-m", "session", "-P", "2")
        assert told.count("Digest: CRC32C") == 2, told
        data = os.urandom(4 * MIB)
        bytes_of.write(disk, 0, data)
        assert bytes_of.read(disk, 0, len(data)) == data
        initiator.logout(target)
