"""The filter `luks` and dm-crypt, both ways; keys of the kernel's keyring; no key in a core dump."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import processes
from support.cdbs import Walk
from support.daemon import Daemon
from support.deadline import command
from support.disk import read, write
from support.filesystem import DIED, HELD_UP, TREE, across_a_crash_and_a_restart, mounted
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback
from support.sg_io import commands

from tcmu_runner.scsi.opcodes import DISK

SIZE = 16 * MIB
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
SETTINGS = """
[stacks.vault]
handler = "file"
filters = [{ filter = "luks", key_file = "KEY", create = true, kdf_memory = "1M" }]

[stacks.existing]
handler = "file"
filters = [{ filter = "luks", key_file = "KEY" }]

[stacks.ringed]
handler = "file"
filters = [{ filter = "luks", keyring = "tcmu:vault" }]

[stacks.squeezed]
handler = "zstd"
filters = [{ filter = "luks", key_file = "KEY", create = true, kdf_memory = "1M", discard = true }]
"""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_bytes(os.urandom(64))
    return path


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory, key: Path) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("settings") / "tcmu-runner.toml"
    settings.write_text(SETTINGS.replace("KEY", str(key)))
    return ("--settings", str(settings))


@contextmanager
def dm_crypt(image: Path, key: Path) -> Iterator[Path]:
    """The volume, opened by the kernel."""
    command("cryptsetup", "open", "--key-file", key, image, "theirs")
    try:
        yield Path("/dev/mapper/theirs")
    finally:
        command("udevadm", "settle")
        command("cryptsetup", "close", "theirs")


def test_dm_crypt_opens_what_we_made_and_we_what_it_wrote(
    make_backstore: MakeBackstore, loopback: Loopback, key: Path, tmp_path: Path
) -> None:
    image, mountpoint = tmp_path / "disk.img", tmp_path / "mnt"
    backstore = make_backstore(f"vault/{image}", SIZE, hw_block_size=4096)
    disk = loopback.add(backstore)
    command("mkfs.ext4", "-q", "-F", disk)
    with mounted(disk, mountpoint):
        command("cp", "-r", TREE, mountpoint / "ours")
    loopback.remove()
    backstore.remove()

    with dm_crypt(image, key) as theirs:
        assert command("blockdev", "--getss", theirs).strip() == "4096"
        with mounted(theirs, mountpoint):
            command("diff", "-r", TREE, mountpoint / "ours")
            command("cp", "-r", TREE, mountpoint / "theirs")
        whole = theirs.read_bytes()
    assert len(whole) == SIZE

    disk = loopback.add(make_backstore(f"vault/{image}", SIZE, hw_block_size=4096))
    assert disk.read_bytes() == whole
    command("fsck.ext4", "-f", "-n", disk)
    with mounted(disk, mountpoint, "-o", "ro"):
        command("diff", "-r", TREE, mountpoint / "theirs")


def test_a_volume_of_luksformat_as_it_comes(
    make_backstore: MakeBackstore, loopback: Loopback, key: Path, tmp_path: Path
) -> None:
    """cryptsetup's own choice of the key derivation and of sectors, but for the time that it shall take."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE + 16 * MIB)
    command("cryptsetup", "luksFormat", "-q", "--iter-time", "200", image, key, seconds=300)
    assert "argon2id" in command("cryptsetup", "luksDump", image)
    with dm_crypt(image, key) as theirs:
        sector_size = int(command("blockdev", "--getss", theirs))
        write(theirs, 4 * MIB, TEXT * 64)
    backstore = make_backstore(f"existing/{image}", SIZE, hw_block_size=sector_size)
    disk = loopback.add(backstore)
    assert read(disk, 4 * MIB, len(TEXT) * 64) == TEXT * 64
    write(disk, 5 * MIB, TEXT)
    loopback.remove()
    backstore.remove()
    with dm_crypt(image, key) as theirs:
        assert read(theirs, 5 * MIB, len(TEXT)) == TEXT


TEXT = b"written on one side, read on the other. ".ljust(64) * 64


def test_a_key_of_the_keyring(
    make_backstore: MakeBackstore, loopback: Loopback, key: Path, tmp_path: Path
) -> None:
    """root's, which is not part of the daemon's session keyring."""
    image = tmp_path / "disk.img"
    make_backstore(f"vault/{image}", SIZE).remove()
    number = command("sh", "-c", f"keyctl padd user tcmu:vault @u < {key}").strip()
    try:
        disk = loopback.add(make_backstore(f"ringed/{image}", SIZE))
        write(disk, 0, TEXT)
        assert read(disk, 0, len(TEXT)) == TEXT
    finally:
        command("keyctl", "unlink", number, "@u")


def test_without_its_key_a_device_is_refused(
    make_backstore: MakeBackstore, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    make_backstore(f"vault/{image}", SIZE).remove()
    before = image.read_bytes()
    expected_log(r"user_0/vol1.*key 'tcmu:vault' of the kernel's keyring: .*: add it with keyctl padd")
    with pytest.raises(OSError):
        make_backstore(f"ringed/{image}", SIZE)
    assert image.read_bytes() == before


def test_no_key_is_in_a_core_dump(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    """A worker without a key leaves one, so that this is not about the machine."""
    expected_log(DIED)
    expected_log("^Fatal Python error: Aborted", optional=True)
    before = CORE_PATTERN.read_text()
    CORE_PATTERN.write_text(f"{tmp_path}/core.%p")
    try:
        dumped = {}
        for config in ("file", "vault"):
            backstore = make_backstore(f"{config}/{tmp_path}/{config}.img", SIZE)
            worker = processes.worker(processes.minor_of(backstore.name))
            command("prlimit", "--pid", str(worker), "--core=unlimited:unlimited")
            since = daemon.position
            os.kill(worker, signal.SIGABRT)
            daemon.wait_for_log("served again", since=since)
            dumped[config] = (tmp_path / f"core.{worker}").exists()
    finally:
        CORE_PATTERN.write_text(before)
    assert dumped == {"file": True, "vault": False}


def test_encrypted_and_compressed_over_iscsi_across_a_crash_and_a_restart(
    daemon: Daemon, make_backstore: MakeBackstore, expected_log: ExpectedLog, tmp_path: Path
) -> None:
    expected_log(DIED)
    expected_log(HELD_UP, optional=True)
    backstore = make_backstore(f"squeezed/{tmp_path}/disk.zdb", 96 * MIB)
    across_a_crash_and_a_restart(daemon, backstore, tmp_path / "mnt")


def test_the_bits_of_cryptographic_erase(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The row of docs/reference/cdb-bits.md that only a disk with a key offers."""
    disk = loopback.add(make_backstore(f"vault/{tmp_path}/disk.img", 1 * MIB))
    with commands(disk) as send:
        walk = Walk(next(row for row in DISK if row.name == "SANITIZE: CRYPTOGRAPHIC ERASE"), send)
        walk.check_refused()
        walk.check_ignored()
