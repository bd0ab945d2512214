"""Single SCSI commands by sg3-utils, whose words for status and sense are not ours."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.deadline import GENEROUS, attempt

GOOD = 0
ILLEGAL_REQUEST, INVALID_OPCODE, UNIT_ATTENTION, MEDIUM_OR_HARDWARE, LBA_OUT_OF_RANGE = 5, 9, 6, 3, 22
"""Exit statuses of sg3-utils (man sg3_utils)."""
TIMEOUT = 120
"""Seconds after which Linux aborts a command; it may take as long again over that."""


@dataclass(frozen=True)
class Reply:
    """status: as sg3-utils exits. text: what it says of status and sense. data: what was received."""

    status: int
    text: str
    data: bytes


def raw(disk: Path, cdb: str, *, receive: int = 0, send: bytes = b"", timeout: int = TIMEOUT) -> Reply:
    """Sends a CDB, in hex. receive: the transport's length of data-in; send: data-out;
    timeout: seconds after which Linux aborts it."""
    with tempfile.TemporaryDirectory() as directory:
        data, payload = Path(directory) / "in", Path(directory) / "out"
        data.touch()
        payload.write_bytes(send)
        options = [f"--outfile={data}", f"--request={receive}"] if receive else []
        if send:
            options += [f"--infile={payload}", f"--send={len(send)}"]
        # cmdset: else an opcode it does not know makes it believe in NVMe. readonly: a disk may be protected.
        options += ["--cmdset=1", "--readonly", f"--timeout={timeout}"]
        ended = attempt("sg_raw", *options, disk, *_bytes(cdb), seconds=timeout + GENEROUS)
        return Reply(ended.status, ended.output + ended.errors, data.read_bytes())


def _bytes(cdb: str) -> list[str]:
    return [f"{byte:02x}" for byte in bytes.fromhex(cdb)]
