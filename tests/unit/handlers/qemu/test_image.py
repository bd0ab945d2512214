"""What QEMU is told of an image, and what is not left to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcmu_runner.handlers.qemu.image import Image, Json, check_chain, guess


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"QFI\xfb\0\0\0\2", "qcow2"),
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"QFI\xfb\0\0\0\1", "qcow"),
        (b"QFI\xfa\0\0\0\2", "raw"),
        (b"KDMV\1\0\0\0", "raw"),
        (b"", "raw"),
    ],
)
def test_guess(tmp_path: Path, head: bytes, expected: str) -> None:
    image = tmp_path / "disk"
    image.write_bytes(head)
    assert guess(str(image)) == expected


def test_the_node_of_an_image(tmp_path: Path) -> None:
    """Names and values are those of QEMU's qapi/block-core.json."""
    image = tmp_path / "disk"
    image.touch()
    node = Image(str(image), "vmdk", read_only=True, direct=True, aio="native", detect_zeroes="on").node()
    common = {"cache": {"direct": True, "no-flush": False}, "discard": "unmap", "read-only": True}
    file = {"driver": "file", "filename": str(image), "aio": "native", **common}
    assert node == {"driver": "vmdk", "node-name": "disk", "detect-zeroes": "on", **common, "file": file}


def test_a_block_device_below_an_image() -> None:
    node = Image("/dev/null", "raw", read_only=False, direct=False, aio="threads", detect_zeroes="off").node()
    assert isinstance(node["file"], dict)
    assert node["file"]["driver"] == "file"  # a character device is no block device


def node(**image: str) -> Json:
    return {"image": {"filename": "/srv/top", **image}}


def test_a_chain_whose_formats_are_recorded() -> None:
    check_chain([node(), node(**{"backing-filename": "base", "backing-filename-format": "raw"})])


def test_a_chain_with_a_format_that_would_be_guessed() -> None:
    with pytest.raises(OSError, match="rebase -u -F FORMAT -b base /srv/top"):
        check_chain([node(), node(**{"backing-filename": "base"})])
