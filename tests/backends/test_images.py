"""`qcow` and `qemu` on images with everything that the formats have: right by qemu-io and qemu-img check."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cases.qcow import ImageBackend, RawBackend, qemu_img
from harness import Case
from harness.lun import Lun, SenseError
from harness.model import Model
from harness.served import PROGRAM, Served

KIB, MIB = 1 << 10, 1 << 20
SIZE = 8 * MIB
Use = Callable[[Path], None]


class Image(ImageBackend):
    """One that is there already."""

    config = ""


def open_image(config: str, directory: Path, size: int = SIZE) -> Served:
    backend = Image(directory, size)
    backend.config = config
    return Served(directory, Case("image", Image, size=size), backend)


@contextmanager
def served(image: Path, options: str = "", size: int = SIZE, handler: str = "qcow") -> Iterator[Lun]:
    """The image as a LUN of a process of its own; it has nothing to complain of, and the image is sound."""

    lun = open_image(f"{handler}/{image}{options}", image.parent, size)
    lun.start()
    try:
        with lun.connect() as session:
            yield session
    finally:
        lun.stop()
    assert lun.unexpected() == []
    if options != ";format=raw" and image.read_bytes()[:8] in (b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\3"):
        qemu_img("check", "-q", image)


def qemu_io(image: Path | str, *commands: str, options: tuple[str, ...] = ()) -> None:
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", *options, *words, str(image)], capture_output=True, text=True)
    assert done.returncode == 0, f"{commands}: {done.stdout} {done.stderr}"
    assert "Pattern verification failed" not in done.stdout, done.stdout


def create(image: Path, *options: object, size: int = SIZE) -> Path:
    qemu_img("create", "-q", "-f", "qcow2", *options, image, size)
    return image


# -- the C daemon's five corruptions (prior-art 2.2) ------------------------------------------------------


def test_a_small_write_over_a_backing_file_keeps_what_is_around_it(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2")
    qemu_io(base, f"write -P 0x11 0 {SIZE}")
    image = create(tmp_path / "disk.qcow2", "-b", base, "-F", "qcow2")
    with served(image) as lun:
        lun.write(68 * KIB, b"\x22" * 4096)
        assert lun.read(64 * KIB, 64 * KIB) == b"\x11" * 4096 + b"\x22" * 4096 + b"\x11" * (56 * KIB)
    qemu_io(image, "read -P 0x11 64k 4k", "read -P 0x22 68k 4k", "read -P 0x11 72k 56k")
    qemu_io(base, f"read -P 0x11 0 {SIZE}")


def test_a_small_write_to_a_cluster_of_zeroes(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    qemu_io(image, "write -z 64k 64k")
    with served(image) as lun:
        lun.write(68 * KIB, b"\x22" * 4096)
        assert lun.read(64 * KIB, 64 * KIB) == bytes(4096) + b"\x22" * 4096 + bytes(56 * KIB)
    qemu_io(image, "read -P 0 64k 4k", "read -P 0x22 68k 4k", "read -P 0 72k 56k")


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_compressed_clusters(tmp_path: Path, method: str) -> None:
    """They are read; a write turns one into a plain cluster."""
    raw, image = tmp_path / "plain.raw", tmp_path / "disk.qcow2"
    content = b"".join(bytes([number % 251]) * 4096 for number in range(SIZE // 4096))
    raw.write_bytes(content)
    options = ["-c", "-o", f"compression_type={method}"]
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, image)
    assert image.stat().st_size < SIZE // 4
    with served(image) as lun:
        assert b"".join(data for _, data in lun.read_all()) == content
        lun.write(4096, b"\xee" * 512)
        assert lun.read(0, 64 * KIB) == content[:4096] + b"\xee" * 512 + content[4608 : 64 * KIB]
    qemu_io(image, "read -P 0xee 4k 512", "read -P 1 4608 3584", "read -P 15 60k 4k")


def test_an_internal_snapshot_keeps_its_content(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    qemu_io(image, f"write -P 0x11 0 {SIZE}")
    qemu_img("snapshot", "-c", "before", image)
    with served(image) as lun:
        lun.write(68 * KIB, b"\x22" * 4096)
        lun.unmap([(1 * MIB, 1 * MIB)])
    qemu_io(image, "read -P 0x22 68k 4k", "read -P 0 1M 1M")
    qemu_img("snapshot", "-a", "before", image)
    qemu_io(image, f"read -P 0x11 0 {SIZE}")


# -- what else the format has ----------------------------------------------------------------------------


def backing_chain(image: Path) -> None:
    base, middle = image.with_name("base.raw"), image.with_name("middle.qcow2")
    qemu_img("create", "-q", "-f", "raw", base, SIZE)
    create(middle, "-b", base, "-F", "raw")
    create(image, "-b", middle, "-F", "qcow2")


def subclusters(image: Path) -> None:
    create(image, "-o", "extended_l2=on,cluster_size=128k")


def data_file(image: Path) -> None:
    create(image, "-o", f"data_file={image}.data,data_file_raw=on")


def small_clusters(image: Path) -> None:
    create(image, "-o", "cluster_size=4k,lazy_refcounts=on")


def old_format(image: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow", image, SIZE)


@pytest.mark.parametrize("make", [backing_chain, subclusters, data_file, small_clusters, old_format])
def test_a_model_on_images_of_all_kinds(tmp_path: Path, make: Use) -> None:
    """Random commands, and qemu-img reads the same bytes afterwards."""
    image = tmp_path / "disk.qcow2"
    make(image)
    with served(image) as lun:
        model = Model(lun, 1)
        for _ in range(120):
            model.step()
        model.check_all(lun)
    plain = tmp_path / "plain.raw"
    qemu_img("convert", "-O", "raw", image, plain)
    assert plain.read_bytes() == model.bytes


@pytest.mark.parametrize("kind", ["vdi", "vhdx", "vpc", "qed", "parallels", "raw"])
def test_other_formats(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "disk"
    qemu_img("create", "-q", "-f", kind, image, 16 * MIB)
    with served(image, f";format={kind}", handler="qemu") as lun:
        lun.write(1 * MIB, b"\x22" * 4096)
        lun.flush()
        assert lun.read(1 * MIB - 512, 5120) == bytes(512) + b"\x22" * 4096 + bytes(512)
    qemu_io(image, "read -P 0x22 1M 4k", "read -P 0 2M 64k", options=("-f", kind))


def test_space_is_given_back(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    with served(image) as lun:
        lun.write(0, os.urandom(4 * MIB))
        lun.flush()
        before = image.stat().st_blocks
        lun.unmap([(0, 4 * MIB)])
        assert not any(lun.read(0, 4 * MIB))
        assert lun.unmapped(0)[0] == (0, SIZE)
    assert image.stat().st_blocks * 512 < before * 512 - 3 * MIB


@pytest.mark.parametrize("options", [";direct;aio=native", ";aio=io_uring", ";detect_zeroes=unmap"])
def test_options(tmp_path: Path, options: str) -> None:
    image = create(tmp_path / "disk.qcow2")
    with served(image, options) as lun:
        lun.write(512, b"\x22" * 1024)
        lun.write(1 * MIB, bytes(64 * KIB))
        assert lun.read(0, 2048) == bytes(512) + b"\x22" * 1024 + bytes(512)


def test_read_only(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    qemu_io(image, "write -P 0x11 0 64k")
    with served(image, ";read_only") as lun:
        assert lun.read(0, 64 * KIB) == b"\x11" * 64 * KIB
        with pytest.raises(SenseError, match="7/27/00"):
            lun.write(0, b"\x22" * 512)


# -- safety ----------------------------------------------------------------------------------------------


def test_a_guest_cannot_turn_a_raw_disk_into_an_image(tmp_path: Path) -> None:
    """Its header would name a file of this host as the backing file."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x99" * SIZE)
    attack = create(tmp_path / "attack.qcow2", "-b", secret, "-F", "raw").read_bytes()[: 64 * KIB]
    image = tmp_path / "disk.img"
    qemu_img("create", "-q", "-f", "raw", image, SIZE)
    lun = open_image(f"qcow/{image}", tmp_path)
    lun.expected = (r"disk\.img would be taken for a qcow image from now on: to allow that add ;format=raw",)
    lun.start()
    with lun.connect() as session:
        session.write(0, b"\x22" * 512)
        for fua in (False, True):
            with pytest.raises(SenseError, match="7/27/00"):
                session.write(0, attack, fua=fua)
        session.write(4096, attack[:4096])
        assert session.read(0, 512) == b"\x22" * 512
    lun.stop()
    assert lun.unexpected() == []
    (tmp_path / "tcmu-runner.log").unlink()
    with served(image, ";format=raw") as session:
        session.write(0, attack)
    with served(image, ";format=raw") as session:
        assert session.read(0, 64 * KIB) == attack  # a raw disk still


def refused(config: str, size: int = SIZE, **environment: str) -> str:
    """What `try` says."""
    subtype, _, rest = config.partition("/")
    done = subprocess.run(
        [PROGRAM, "try", subtype, rest, "--size", str(size), "--run", "true"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_backing_file_whose_format_would_be_guessed(tmp_path: Path) -> None:
    base, image = tmp_path / "base.raw", create(tmp_path / "disk.qcow2")
    qemu_img("create", "-q", "-f", "raw", base, SIZE)
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", base, image)
    without_format(image)
    said = refused(f"qcow/{image}")
    assert "does not record the format of its backing file" in said
    assert f"qemu-img rebase -u -F FORMAT -b {base} {image}" in said


def without_format(image: Path) -> None:
    """Renames the header extension with the backing format (docs/interop/qcow2.txt: E2792ACAh) to one that
    nobody knows."""
    data = image.read_bytes()
    at = data.index(bytes.fromhex("e2792aca"))
    image.write_bytes(data[:at] + b"none" + data[at + 4 :])


def test_what_is_refused(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    assert "has 8388608 bytes (8 MiB), not 16777216: set --size to 8388608 or less" in refused(
        f"qcow/{image}", 2 * SIZE
    )
    assert "make an image with qemu-img create -f qcow2" in refused(f"qcow/{tmp_path}/none.qcow2")
    assert "neither a file nor a block device" in refused(f"qemu/{tmp_path};format=raw")
    assert "option format=tar: there are bochs, cloop" in refused(f"qemu/{image};format=tar")
    assert "option 'format' is missing: add ;format=qcow2" in refused(f"qemu/{image}")
    assert f"{image}: " in refused(f"qemu/{image};format=vmdk")


def test_a_missing_program(tmp_path: Path) -> None:
    image = create(tmp_path / "disk.qcow2")
    assert "qemu-storage-daemon is not installed: apt-get install qemu-system-common" in refused(
        f"qcow/{image}", PATH="/nowhere"
    )


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
@pytest.mark.parametrize("second", ["qcow", "file"])
def test_an_image_is_served_once(tmp_path: Path, kind: str, second: str) -> None:
    """QEMU alone lets two of its processes write to a raw image."""
    image = tmp_path / "disk.img"
    qemu_img("create", "-q", "-f", kind, image, SIZE)
    with served(image):
        said = refused(f"{second}/{image}")
    assert f"{image} is in use by process" in said


def test_several_luns_share_a_raw_image_that_says_so(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    qemu_img("create", "-q", "-f", "raw", image, SIZE)
    with served(image, ";format=raw;shared"):
        (tmp_path / "second").mkdir()
        other = open_image(f"file/{image};shared", tmp_path / "second")
        other.start()
        other.stop()


def begun(make: type[ImageBackend], directory: Path) -> tuple[ImageBackend, Served]:
    """A fresh image, served."""
    backend = make(directory, SIZE)
    backend.start()
    lun = Served(directory, Case("image", make, size=SIZE), backend)
    lun.start()
    return backend, lun


def test_a_predecessor_that_still_writes_is_waited_for(tmp_path: Path) -> None:
    """The daemon of a worker that was killed writes what it has in memory before it ends."""
    backend, lun = begun(RawBackend, tmp_path)
    (predecessor,) = backend.daemons()
    os.kill(predecessor, signal.SIGSTOP)
    lun.kill()
    go_on = threading.Timer(3.0, os.kill, (predecessor, signal.SIGCONT))
    go_on.start()
    lun.start()
    assert predecessor not in backend.daemons()
    assert go_on.finished.is_set()
    lun.stop()
    backend.stop()


def test_the_daemon_dies_with_its_worker(tmp_path: Path) -> None:
    backend, lun = begun(ImageBackend, tmp_path)
    (daemon,) = backend.daemons()
    lun.kill()
    deadline = time.monotonic() + 60
    while backend.daemons():
        assert time.monotonic() < deadline, f"{daemon} lives on"
        time.sleep(0.01)
    backend.stop()


def test_a_daemon_that_is_frozen_is_no_obstacle_to_the_end(tmp_path: Path) -> None:
    """It is killed then, after a while."""
    backend, lun = begun(ImageBackend, tmp_path)
    os.kill(backend.daemons()[0], signal.SIGSTOP)
    lun.stop()
    backend.stop()
