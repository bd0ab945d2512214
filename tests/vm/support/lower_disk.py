"""A file system on a disk that can be made slow, stand still, or lose its power: device-mapper's targets."""

from pathlib import Path

from support.deadline import command

NAME = "lower"
NODE = f"/dev/mapper/{NAME}"
NEVER = 86400  # seconds


class LowerDisk:
    """size: bytes. mountpoint: of an ext4 on it. Whatever is done to it, the file system stays mounted."""

    def __init__(self, directory: Path, size: int) -> None:
        image = directory / "lower.img"
        with image.open("wb") as file:
            file.truncate(size)
        self._loop = command("losetup", "--find", "--show", image).strip()
        self._sectors = size // 512
        command("modprobe", "-a", "dm-flakey", "dm-delay")
        command("dmsetup", "create", NAME, "--table", self._table(f"linear {self._loop} 0"))
        command("mkfs.ext4", "-q", NODE)
        self.mountpoint = directory / "lower"
        self.mountpoint.mkdir()
        self._mount()

    def be_slow(self, milliseconds: int) -> None:
        """Each read and write takes so much longer."""
        self._switch(f"delay {self._loop} 0 {milliseconds}")

    def be_quick(self) -> None:
        self._switch(f"linear {self._loop} 0")

    def stand_still(self) -> None:
        """Nothing comes back from now on, until `go_on`."""
        command("dmsetup", "suspend", "--noflush", "--nolockfs", NAME)

    def go_on(self) -> None:
        command("dmsetup", "resume", NAME)

    def lose_power(self) -> None:
        """What is written from now on is forgotten."""
        self._switch(f"flakey {self._loop} 0 0 {NEVER} 1 drop_writes")

    def power_up(self) -> None:
        """What the disk has kept, as the journal makes it whole. Nobody may use it meanwhile."""
        command("umount", self.mountpoint)
        self.be_quick()
        self._mount()

    def remove(self) -> None:
        command("umount", self.mountpoint)
        command("dmsetup", "remove", "--retry", NAME)
        command("losetup", "--detach", self._loop)

    def _mount(self) -> None:
        command("mount", NODE, self.mountpoint)

    def _table(self, target: str) -> str:
        return f"0 {self._sectors} {target}"

    def _switch(self, target: str) -> None:
        self.stand_still()
        command("dmsetup", "load", NAME, "--table", self._table(target))
        self.go_on()
