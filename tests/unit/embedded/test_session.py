"""The initiator port of a session, as SCSI names it."""

from __future__ import annotations

from tcmu_runner.embedded.session import Session
from tcmu_runner.iscsi.text import Parameters


def test_transport_id() -> None:
    """SPC-5 7.6.4.6: format 01b, protocol 5h; name and ISID, ended by NUL, a multiple of four bytes."""
    found = Session("iqn.b:me", b"\0\2\x3d\0\0\1", 1, Parameters(), portal_group=1)
    assert found.transport_id == b"\x45\0\0\x1c" + b"iqn.b:me,i,0x00023d000001\0\0\0"
