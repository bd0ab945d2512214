"""What must exist before devices can: the kernel module and configfs. NetlinkGate: ends netlink waits."""

import errno
import os
import subprocess
from types import TracebackType
from typing import Self

from tcmu_runner.errors import TcmuError
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.sysfs import KernelFileError

_MODULE = "target_core_user"


class ModuleError(TcmuError):
    """The kernel lacks TCMU or LIO; the text says how to get it."""

    errno = errno.ENOSYS


def load_target_core_user(paths: Paths = SYSTEM, modprobe: str = "modprobe") -> None:
    """Checks that target_core_user and configfs are there; loads the module if it is not.

    A loaded module is enough: a container has no /lib/modules. Raises ModuleError.
    """
    if not (paths.module / _MODULE).is_dir():
        _modprobe(modprobe)
        if not (paths.module / _MODULE).is_dir():
            raise ModuleError(f"{modprobe} {_MODULE} succeeded, but {paths.module} does not show the module")
    if not (paths.module / _MODULE / "parameters/global_max_data_area_mb").exists():  # since 4.16
        raise ModuleError(f"{_MODULE} of this kernel is too old: tcmu-runner needs Linux 4.18 or newer")
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
    """While it is shut, the kernel lets no administrator's command wait for a reply; shutting it ends the
    waits that there are, with EINTR.

    Shut it while devices are taken over at the start, and to end waits for replies to events that were lost,
    which nothing else can. Meanwhile commands that would wait fail with EAGAIN, and removals send no event.
    Kernels before 4.19 lack the parameters: nothing happens there. Raises KernelFileError.
    """

    def __init__(self, paths: Paths = SYSTEM) -> None:
        self._parameters = paths.module / _MODULE / "parameters"

    def block_and_reset(self) -> None:
        """Shuts the gate and ends all waits."""
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
            sysfs.write(path, text)
        except FileNotFoundError:
            return
        except OSError as error:
            code = error.errno or errno.EIO
            remedy = "; run as root" if code in (errno.EACCES, errno.EPERM) else ""
            message = f"{_MODULE}: cannot write {text} to {name}: {os.strerror(code)}{remedy}"
            raise KernelFileError(code, message, path) from error
