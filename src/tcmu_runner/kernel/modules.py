"""What must be there before devices can be: the kernel module and configfs; its gate to netlink waits."""

import errno
import os
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tcmu_runner.errors import TcmuError
from tcmu_runner.kernel import attribute
from tcmu_runner.kernel.attribute import KernelFileError
from tcmu_runner.kernel.paths import SYSTEM, Paths

_MODULE = "target_core_user"


class ModuleError(TcmuError):
    """The kernel side of TCMU is not there; the text says how to get it."""

    errno = errno.ENOSYS


def load_target_core_user(paths: Paths = SYSTEM, modprobe: str = "modprobe") -> None:
    """Make sure that target_core_user and configfs are there, loading the module where it is not.

    One that is loaded already is enough: a container has no /lib/modules. Raises ModuleError.
    """
    if not (paths.module / _MODULE).is_dir():
        _modprobe(modprobe)
        if not (paths.module / _MODULE).is_dir():
            raise ModuleError(f"{modprobe} {_MODULE} succeeded, but {paths.module} does not show the module")
    if not paths.target.is_dir():
        raise ModuleError(
            f"LIO's directory {paths.target} is missing; "
            f"if configfs is not mounted: mount -t configfs none {paths.configfs}"
        )


def _modprobe(modprobe: str) -> None:
    remedy = f"as root run: modprobe {_MODULE} (in a container: on its host)"
    try:
        result = subprocess.run(
            [modprobe, _MODULE], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ModuleError(f"cannot load {_MODULE}: {modprobe}: {error.strerror}; {remedy}") from error
    if result.returncode != 0:
        raise ModuleError(f"cannot load {_MODULE}: {result.stderr.strip()}; {remedy}")


class NetlinkGate:
    """No administrator's command waits for a reply while this is shut; those that did end with EINTR.

    Shut it while devices are taken over at the start, and to free whoever waits for the reply to an event
    that was lost: nothing else can. Commands that would wait fail with EAGAIN meanwhile, and a removal goes
    unannounced. Kernels before 4.19 have no gate: nothing happens there. Raises KernelFileError.
    """

    def __init__(self, paths: Paths = SYSTEM) -> None:
        self._parameters = paths.module / _MODULE / "parameters"

    def block_and_reset(self) -> None:
        """Shut it, and end all waits there are."""
        self._write("block_netlink", "1")
        self._write("reset_netlink", "1")  # EBUSY unless blocked

    def unblock(self) -> None:
        self._write("block_netlink", "0")

    def __enter__(self) -> Self:
        try:
            self.block_and_reset()
        except BaseException:
            self.unblock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unblock()

    def _write(self, name: str, text: str) -> None:
        path = self._parameters / name
        try:
            attribute.write(path, text)
        except FileNotFoundError:
            return
        except OSError as error:
            code = error.errno or errno.EIO
            remedy = "; run as root" if code in (errno.EACCES, errno.EPERM) else ""
            message = f"{_MODULE}: cannot write {text} to {name}: {os.strerror(code)}{remedy}"
            raise KernelFileError(code, message, path) from error


@dataclass(frozen=True, slots=True)
class Features:
    """What this kernel's TCMU can do, told by the files it shows: distributions backport, so its version does
    not tell. The mailbox flags tell what a ring can do; whether alua_support and pgr_support can be written
    (5.8), only trying."""

    netlink_gate: bool  # 4.19
    data_area_limit: bool  # 4.16
    block_device: bool  # 4.16
    reset_ring: bool  # 4.16
    kept_buffers: bool  # 5.15
    command_timeout: bool  # 4.12
    live_attributes: bool  # 4.13: dev_config, dev_size and emulate_write_cache, with RECONFIG events
    reply_switch: bool  # 4.15: nl_reply_supported
    queue_full_timeout: bool  # 4.16
    emulate_pr: bool  # 5.0
    task_management: bool  # 5.10
    data_block_size: bool  # 5.13: data_pages_per_blk
    ring_size: bool  # 5.18
    submit_type: bool  # 6.7


def probe(hba: int, device: str, paths: Paths = SYSTEM) -> Features:
    """The features, seen at any one backstore. Forbidden while its REMOVED waits for a reply."""
    parameters = paths.module / _MODULE / "parameters"
    backstore = paths.target / "core" / f"user_{hba}" / device
    action, attrib = backstore / "action", backstore / "attrib"
    return Features(
        netlink_gate=(parameters / "block_netlink").exists(),
        data_area_limit=(parameters / "global_max_data_area_mb").exists(),
        block_device=(action / "block_dev").exists(),
        reset_ring=(action / "reset_ring").exists(),
        kept_buffers=(action / "free_kept_buf").exists(),
        command_timeout=(attrib / "cmd_time_out").exists(),
        live_attributes=(attrib / "dev_size").exists(),
        reply_switch=(attrib / "nl_reply_supported").exists(),
        queue_full_timeout=(attrib / "qfull_time_out").exists(),
        emulate_pr=(attrib / "emulate_pr").exists(),
        task_management=(attrib / "tmr_notification").exists(),
        data_block_size=(attrib / "data_pages_per_blk").exists(),
        ring_size=(attrib / "cmd_ring_size_mb").exists(),
        submit_type=(attrib / "submit_type").exists(),
    )
