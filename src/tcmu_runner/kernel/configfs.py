"""The backstore's directory in configfs: what the administrator set, and the actions on a device.

**Use nothing of this module between a REMOVED event and the reply to it**: the kernel then holds the
directory's lock, and any access to a path below it sleeps, unkillable, until the reply (configfs_rmdir).
While ADDED waits for its reply all may be used; actions then fail with EINVAL, since the device is not
enabled yet. For a file that an old kernel lacks, methods return what that kernel does.
"""

import errno
from contextlib import suppress
from enum import IntEnum

from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.sysfs import KernelFileError

SERIAL_PREFIX = "T10 VPD Unit Serial Number: "
_LIO_COMPANY_ID = 0x001405  # the OpenFabrics id that LIO devices have by default

_CONTROL_KEYS = {
    "dev_config",
    "dev_size",
    "hw_block_size",
    "hw_max_sectors",
    "nl_reply_supported",
    "max_data_area_mb",
    "data_pages_per_blk",
    "cmd_ring_size_mb",
}
_MAX_CONFIG = 255
DEFAULT_MAX_SECTORS = 128  # the kernel's hw_max_sectors for a new backstore

_REMEDIES = {
    errno.ENOENT: "the backstore was removed, or the kernel is too old for this file",
    errno.EINVAL: "the value does not suit the kernel, or not while the device is in its present state "
    "(actions need an enabled device, some attributes one that is not exported)",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root",
}


class ConfigfsError(KernelFileError):
    """A file of a backstore cannot be read or written."""


class ResetStatus(IntEnum):
    """How the commands under way end when the ring is reset."""

    BUSY = 1  # initiators send them again
    NOT_READY = 2  # CHECK CONDITION, 02/08/00: an I/O error for most initiators


class Backstore:
    """`core/user_<hba>/<device>`. All methods raise ConfigfsError. Do not call any while REMOVED waits."""

    def __init__(self, hba: int, device: str, paths: Paths = SYSTEM) -> None:
        self.name = f"user_{hba}/{device}"
        self.directory = paths.target / "core" / f"user_{hba}" / device

    # -- what the administrator set -------------------------------------------------------------------

    def block_size(self) -> int:
        """Bytes."""
        return self._number("attrib/hw_block_size")

    def size(self) -> int:
        """Bytes. Before 4.13 it is in `info` only, behind the config string, which can contain anything."""
        text = self._read("attrib/dev_size", "")
        if not text:
            text = self._read("info").rpartition(" Size: ")[2].partition(" ")[0]
        return self._parse("attrib/dev_size", text)

    def max_sectors(self) -> int:
        """hw_max_sectors, in blocks: the transfer length that the administrator advises; the kernel does not
        enforce it. 0 for the default: no administrator chose it, and initiators would split transfers by it
        (docs/adr/0021)."""
        advised = self._number("attrib/hw_max_sectors")
        return 0 if advised == DEFAULT_MAX_SECTORS else advised

    def data_area(self) -> int:
        """Bytes of the device's data area: the kernel refuses longer transfers. 0: an old kernel has no
        file."""
        return self._number("attrib/max_data_area_mb", 0) << 20

    def serial(self) -> str:
        """The unit serial number, empty if none is set (LIO's tools set it after `enable`)."""
        return self._read("wwn/vpd_unit_serial").removeprefix(SERIAL_PREFIX.rstrip()).strip()

    def set_serial(self, serial: str) -> None:
        """The kernel refuses a change while the backstore is exported."""
        self._write("wwn/vpd_unit_serial", serial)

    def vendor_id(self) -> str:
        """At most 8 characters; empty if the kernel has none."""
        return self._read("wwn/vendor_id", "").strip()

    def product_id(self) -> str:
        """At most 16 characters; empty if the kernel has none."""
        return self._read("wwn/product_id", "").strip()

    def revision(self) -> str:
        """At most 4 characters; empty if the kernel has none."""
        return self._read("wwn/revision", "").strip()

    def company_id(self) -> int:
        """IEEE company id, 24 bits, for NAA identifiers."""
        name = "wwn/company_id"
        return self._parse(name, self._read(name, f"{_LIO_COMPANY_ID:#x}"), base=16)

    def write_cache(self) -> bool:
        """emulate_write_cache: 0 for a new device until `show_write_cache`."""
        return self._flag("attrib/emulate_write_cache", absent=False)

    def show_write_cache(self, on: bool) -> None:
        """The kernel only stores it. Call while ADDED waits: later the kernel sends us RECONFIG for it."""
        self._write("attrib/emulate_write_cache", str(int(on)))

    def command_timeout(self) -> int:
        """Seconds after which the kernel fails a command; 0 for never."""
        return self._number("attrib/cmd_time_out", 30)

    def alua_support(self) -> bool:
        """Whether the kernel keeps ALUA groups for the device and refuses commands by their state."""
        return self._flag("attrib/alua_support", absent=True)

    def answers_reservations(self) -> bool:
        """Whether the kernel answers RESERVE and PERSISTENT RESERVE. Else it refuses them (emulate_pr=0) or
        passes them on to us."""
        emulated = self._flag("attrib/emulate_pr", absent=True)
        return emulated and self._flag("attrib/pgr_support", absent=True)

    def device_id(self) -> int:
        """The id that netlink events and replies carry."""
        return self._number("statistics/scsi_dev/indx")

    # -- actions --------------------------------------------------------------------------------------

    def block(self) -> None:
        """Has the kernel answer new commands with BUSY. Commands on the ring are not affected."""
        self._write("action/block_dev", "1")

    def unblock(self) -> None:
        """Has the kernel accept new commands again."""
        self._write("action/block_dev", "0")

    def reset_ring(self, outcome: ResetStatus | int = ResetStatus.BUSY) -> None:
        """Ends all commands under way with `outcome` and empties the ring. Block first, and make sure that no
        process touches ring or data area: the kernel reuses both at once. Causes no UIO event."""
        self._write("action/reset_ring", str(int(outcome)))

    def quiesce(self) -> None:
        """Blocks the device and empties its ring: the commands end with BUSY and initiators retry them. See
        reset_ring."""
        self.block()
        self.reset_ring()

    def notify_task_management(self) -> None:
        """Has the kernel post aborts and LUN resets on the ring; kernels before 5.10 cannot."""
        with suppress(ConfigfsError):
            self._write("attrib/tmr_notification", "1")

    def set_size(self, size: int) -> None:
        """Bytes. Waits for the daemon's reply: it resizes the storage or refuses."""
        self._write("attrib/dev_size", str(size))

    def set_control(self, **values: int | str) -> None:
        """Writes keys to the `control` file, in one write; no event is sent.

        ValueError for values that the kernel would silently ignore or cut, or divide by zero with.
        """
        for key, value in values.items():
            _check_control(key, str(value))
        self._write("control", ",".join(f"{key}={value}" for key, value in values.items()))

    # -- files ----------------------------------------------------------------------------------------

    def _flag(self, name: str, *, absent: bool) -> bool:
        return self._number(name, int(absent)) != 0

    def _number(self, name: str, absent: int | None = None) -> int:
        return self._parse(name, self._read(name, None if absent is None else str(absent)))

    def _parse(self, name: str, text: str, base: int = 10) -> int:
        try:
            return int(text, base)
        except ValueError:
            raise self._error(OSError(errno.EINVAL, f"{text!r} is no number"), "read", name) from None

    def _read(self, name: str, absent: str | None = None) -> str:
        try:
            return sysfs.read(self.directory / name)
        except OSError as error:
            if absent is not None and error.errno == errno.ENOENT and self.directory.is_dir():
                return absent
            raise self._error(error, "read", name) from error

    def _write(self, name: str, text: str) -> None:
        try:
            sysfs.write(self.directory / name, text)
        except OSError as error:
            raise self._error(error, f"write {text!r} to", name) from error

    def _error(self, error: OSError, doing: str, name: str) -> ConfigfsError:
        code = error.errno or errno.EIO
        remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
        text = f"{self.name}: cannot {doing} {name}: {error.strerror}{remedy}"
        return ConfigfsError(code, text, self.directory / name)


def _check_control(key: str, value: str) -> None:
    if key not in _CONTROL_KEYS:
        known = ", ".join(sorted(_CONTROL_KEYS))
        raise ValueError(f"the kernel ignores the control key {key!r}; it knows {known}")
    if "," in value or "\n" in value:
        raise ValueError(f"{key}={value!r}: the kernel would end the value at the comma or newline")
    if key == "dev_config" and len(value.encode("utf-8", "surrogateescape")) > _MAX_CONFIG:
        raise ValueError(f"dev_config {value!r} is longer than {_MAX_CONFIG} bytes, the kernel would cut it")
    if key == "data_pages_per_blk" and int(value, 0) < 1:
        raise ValueError("data_pages_per_blk must be at least 1: the kernel divides by it")
