"""Each row of docs/reference/cdb-bits.md over iSCSI, on a unit that offers all but one of them: also those
which LIO answers itself before a userspace backstore sees them, and those of a removable medium."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcmu_runner.embedded import Disk, serve
from tcmu_runner.embedded.initiator import Initiator
from tcmu_runner.embedded.server import NAME
from tcmu_runner.handler.registry import Registry
from tcmu_runner.scsi.opcodes import DISK
from tcmu_runner.scsi.table import Row

sys.path.append(str(Path(__file__).parents[1] / "vm"))

from support.cdbs import CASES, GOOD, Answer, Send, Walk

BEHIND_LIO = "SET TARGET PORT GROUPS"  # the embedded target has one group, whose state nobody sets
ROWS = [pytest.param(row, id=row.name) for row in DISK if row.name != BEHIND_LIO]


@pytest.fixture(scope="module")
def send(registry: Registry) -> Iterator[Send]:
    disk = Disk("everything/", 1 << 20, removable=True)
    with serve(disk, registry=registry) as server:
        at = server.portals[0]
        with Initiator(at.host, at.port) as initiator:
            initiator.login(NAME)

            def over_iscsi(cdb: bytes, *, send: bytes = b"", receive: int = 0) -> Answer:
                result = initiator.command(cdb, send, receive)
                return Answer(result.status, result.sense, result.data)

            while over_iscsi(bytes(6)).status != GOOD:  # takes the unit attention of a new session
                pass
            yield over_iscsi


def test_every_row_has_a_case() -> None:
    assert sorted(CASES) == sorted(row.name for row in DISK)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_refuses_and_ignores_what_the_table_says(row: Row, send: Send) -> None:
    walk = Walk(row, send)
    walk.check_refused()
    walk.check_ignored()
