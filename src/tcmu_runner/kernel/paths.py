"""Where the kernel shows its files; tests and containers have them elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Paths:
    """target: LIO's configfs directory. configfs: the mount it is in. module: loaded modules. run: our files
    that outlive the daemon. state: our files that outlive a reboot."""

    uio: Path = Path("/sys/class/uio")
    configfs: Path = Path("/sys/kernel/config")
    target: Path = Path("/sys/kernel/config/target")
    module: Path = Path("/sys/module")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    scsi: Path = Path("/sys/bus/scsi/devices")
    run: Path = Path("/run/tcmu-runner")
    state: Path = Path("/var/lib/tcmu-runner")

    @classmethod
    def under(cls, root: Path) -> Self:
        """The same paths below `root`."""
        return cls(
            root / "sys/class/uio",
            root / "sys/kernel/config",
            root / "sys/kernel/config/target",
            root / "sys/module",
            root / "dev",
            root / "proc",
            root / "sys/bus/scsi/devices",
            root / "run/tcmu-runner",
            root / "var/lib/tcmu-runner",
        )


SYSTEM = Paths()
