"""A session of an initiator at the target: the I_T nexuses to its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcmu_runner.iscsi.addressing import lun_address, lun_number
from tcmu_runner.iscsi.target_session import TargetSession

if TYPE_CHECKING:
    from tcmu_runner.embedded.local import LocalLun
    from tcmu_runner.iscsi.text import Parameters
    from tcmu_runner.scsi.command import Nexus


class Session(TargetSession):
    """initiator, isid: the initiator port. portal_group: with the target's name, the target port.

    units: the LUNs and the initiator's nexus to each, by LUN field.
    """

    def __init__(
        self, initiator: str, isid: bytes, tsih: int, parameters: Parameters, *, portal_group: int,
        discovery: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(tsih, parameters, discovery=discovery)
        self.initiator = initiator
        self.isid = isid
        self.portal_group = portal_group
        self.units: dict[bytes, tuple[LocalLun, Nexus]] = {}

    @property
    def transport_id(self) -> bytes:
        """The initiator port's TransportID: iSCSI name and ISID (SPC-5 7.6.4.6)."""
        name = f"{self.initiator},i,0x{self.isid.hex()}".encode() + b"\0"
        name = name.ljust(max(20, len(name) + (-len(name) & 3)), b"\0")
        return b"\x45\0" + len(name).to_bytes(2, "big") + name

    def unit(self, address: bytes) -> tuple[LocalLun, Nexus] | tuple[None, None]:
        """The unit that a LUN field names, in whatever form, and the nexus to it, if there is one."""
        number = lun_number(address)
        return (None, None) if number < 0 else self.units.get(lun_address(number), (None, None))
