"""Image files: their formats, and the options that QEMU gets for one."""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

FORMATS = (
    "bochs", "cloop", "dmg", "parallels", "qcow", "qcow2", "qed", "raw", "vdi", "vhdx", "vmdk", "vpc",
)  # fmt: skip
MAGIC = b"QFI\xfb"  # qcow and qcow2; the version follows
NODE = "disk"
Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Image:
    """format: of FORMATS. aio, detect_zeroes: QEMU's values. direct: bypass the page cache. shared: do not
    lock."""

    path: str
    format: str
    read_only: bool
    direct: bool
    aio: str
    detect_zeroes: str
    shared: bool = False

    def node(self) -> Json:
        """The argument of blockdev-add (qapi/block-core.json). Leaves nothing for QEMU to guess."""
        cache = {"direct": self.direct, "no-flush": False}
        file = {
            "driver": "host_device" if _is_block_device(self.path) else "file",
            "filename": self.path,
            "aio": self.aio,
            **({"locking": "off"} if self.shared else {}),
        }
        node = {"driver": self.format, "node-name": NODE, "detect-zeroes": self.detect_zeroes}
        common = {"cache": cache, "discard": "unmap", "read-only": self.read_only}
        return {**node, **common, "file": {**file, **common}}


def _is_block_device(path: str) -> bool:
    return stat.S_ISBLK(Path(path).stat().st_mode)


def guess(path: str) -> str:
    """qcow2 or qcow if the file has their magic number, else raw. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:4] != MAGIC:
        return "raw"
    return "qcow" if head[4:] == b"\0\0\0\1" else "qcow2"


def check_chain(nodes: Sequence[Json]) -> None:
    """nodes: from query-named-block-nodes. Raises OSError for a backing file without a recorded format: QEMU
    would guess it from content that a guest may have written. A guest that writes an image header with a
    backing file of its choice would read that file (CVE-2008-2004)."""
    for node in nodes:
        image = cast("Json", node["image"])
        backing = image.get("backing-filename")
        if backing is not None and "backing-filename-format" not in image:
            raise OSError(
                errno.EINVAL,
                f"{image['filename']} does not record the format of its backing file {backing}: record it "
                f"with qemu-img rebase -u -F FORMAT -b {backing} {image['filename']}",
            )
