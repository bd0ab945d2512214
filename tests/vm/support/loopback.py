"""LUNs as disks of this very machine, through tcm_loop."""

from dataclasses import dataclass
from pathlib import Path

from support.configfs import TARGET, Backstore, show, store
from support.deadline import GENEROUS, command, eventually, within

FABRIC = TARGET / "loopback"
SCSI_DEVICES = Path("/sys/bus/scsi/devices")


@dataclass(frozen=True)
class Loopback:
    """A target with one portal group; its number (0 to 255) tells it from others."""

    number: int = 0

    @property
    def group(self) -> Path:
        return FABRIC / f"naa.50014050000001{self.number:02x}" / "tpgt_1"

    def create(self) -> "Loopback":
        self.group.mkdir(parents=True)
        store(self.group / "nexus", f"naa.50014050000002{self.number:02x}")
        return self

    def add(self, backstore: Backstore, lun: int = 0) -> Path:
        """Exports `backstore`; the kernel scans it at once. Returns its disk, /dev/sdX, ready for use."""
        directory = self.group / "lun" / f"lun_{lun}"
        directory.mkdir()
        within(GENEROUS, (directory / backstore.name).symlink_to, backstore.path)
        block = self.scsi_device(lun) / "block"
        eventually(f"a disk in {block}", lambda: block.is_dir() and any(block.iterdir()))
        command("udevadm", "settle")
        return Path("/dev") / next(block.iterdir()).name

    def scsi_device(self, lun: int = 0) -> Path:
        """Its directory in sysfs, such as /sys/bus/scsi/devices/2:0:1:0."""
        return SCSI_DEVICES / f"{show(self.group / 'address')}:{lun}"

    def remove(self, lun: int = 0) -> None:
        """Takes the disk away; its last write cache flush goes to the daemon."""
        directory = self.group / "lun" / f"lun_{lun}"
        for link in links(directory):
            within(GENEROUS, link.unlink)
        directory.rmdir()

    def delete(self) -> None:
        for directory in sorted((self.group / "lun").iterdir()):
            self.remove(int(directory.name.removeprefix("lun_")))
        store(self.group / "nexus", "NULL")
        self.group.rmdir()
        self.group.parent.rmdir()


def links(directory: Path) -> list[Path]:
    """The symbolic links in a directory: of a LUN, its backstore."""
    return [entry for entry in directory.iterdir() if entry.is_symlink()]
