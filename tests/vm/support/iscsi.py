"""LUNs over the kernel's iSCSI target on 127.0.0.1, and open-iscsi's initiators."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from support.configfs import TARGET, Backstore, show, store
from support.deadline import GENEROUS, CommandError, command, eventually, within
from support.loopback import links

FABRIC = TARGET / "iscsi"
SESSIONS = Path("/sys/class/iscsi_session")
PORTAL = "127.0.0.1:3260"

# Any initiator may log in, without a password, and write.
OPEN_TO_ALL = {
    "authentication": 0,
    "generate_node_acls": 1,
    "cache_dynamic_acls": 1,
    "demo_mode_write_protect": 0,
}


class Target(Protocol):
    """What an initiator has to know."""

    @property
    def iqn(self) -> str: ...

    @property
    def portal(self) -> str:
        """ADDRESS:PORT."""


@dataclass(frozen=True)
class IscsiTarget:
    """A target with one portal group; its number tells it from others."""

    number: int = 0
    portal: str = PORTAL

    @property
    def iqn(self) -> str:
        return f"iqn.2026-11.com.example:target{self.number}"

    @property
    def group(self) -> Path:
        return FABRIC / self.iqn / "tpgt_1"

    def create(self, *backstores: Backstore) -> "IscsiTarget":
        """Listens at the portal, with the backstores as LUN 0, 1, …"""
        (self.group / "np" / self.portal).mkdir(parents=True)
        for number, backstore in enumerate(backstores):
            lun = self.group / "lun" / f"lun_{number}"
            lun.mkdir()
            (lun / backstore.name).symlink_to(backstore.path)
        for name, value in OPEN_TO_ALL.items():
            store(self.group / "attrib" / name, value)
        store(self.group / "enable", 1)
        return self

    def delete(self) -> None:
        """Ends its sessions, which waits for their commands."""
        within(GENEROUS, store, self.group / "enable", 0)
        for lun in (self.group / "lun").iterdir():
            for link in links(lun):
                within(GENEROUS, link.unlink)
            lun.rmdir()
        for portal in (self.group / "np").iterdir():
            portal.rmdir()
        self.group.rmdir()
        self.group.parent.rmdir()


@dataclass(frozen=True)
class Initiator:
    """An initiator with a name of its own: an interface of open-iscsi."""

    number: int = 0

    @property
    def interface(self) -> str:
        return f"initiator{self.number}"

    @property
    def iqn(self) -> str:
        return f"iqn.2026-11.com.example:{self.interface}"

    def login(self, target: Target, lun: int = 0, settings: Mapping[str, str] | None = None) -> Path:
        """Returns the disk of `lun` as this initiator sees it, ready for use. settings: see `connect`."""
        self.connect(target, settings or {})
        eventually(f"a disk of {target.iqn} for {self.iqn}", lambda: bool(self._disks(target, lun)))
        command("udevadm", "settle")
        return Path("/dev") / self._disks(target, lun)[0].name

    def connect(self, target: Target, settings: Mapping[str, str]) -> None:
        """Logs in. settings: of iscsiadm's node record, node.NAME."""
        with contextlib.suppress(CommandError):  # it is there from an earlier login
            command("iscsiadm", "-m", "iface", "-I", self.interface, "--op", "new")
        command(
            *("iscsiadm", "-m", "iface", "-I", self.interface, "--op", "update"),
            *("-n", "iface.initiatorname", "-v", self.iqn),
        )
        command("iscsiadm", *self._node(target), "--op", "new")
        for name, value in settings.items():
            command("iscsiadm", *self._node(target), "--op", "update", "-n", f"node.{name}", "-v", value)
        command("iscsiadm", *self._node(target), "--login")

    def logout(self, target: Target) -> None:
        command("iscsiadm", *self._node(target), "--logout")
        command("iscsiadm", *self._node(target), "--op", "delete")

    def _node(self, target: Target) -> list[str]:
        return ["-m", "node", "-T", target.iqn, "-p", target.portal, "-I", self.interface]

    def _disks(self, target: Target, lun: int) -> list[Path]:
        return [
            disk
            for session in SESSIONS.glob("session*")
            if (show(session / "targetname"), show(session / "initiatorname")) == (target.iqn, self.iqn)
            for disk in (session / "device").glob(f"target*/*:{lun}/block/*")
        ]


def logout_everywhere() -> None:
    if any(SESSIONS.glob("session*")):
        command("iscsiadm", "-m", "node", "--logoutall=all")
        command("iscsiadm", "-m", "node", "--op", "delete")
