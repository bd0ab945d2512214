"""Makes and removes objects in LIO by rtslib-fb: targetcli sees the same, and saves it in the same file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcmu_runner.cli.iscsi import Exported, Exporter, Grant, check
from tcmu_runner.cli.optional import need
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.kernel.modules import load_target_core_user
from tcmu_runner.printable import utf8


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backstore. In bytes: size, block_size, max_io (a transfer), data_area (of all commands under way)."""

    name: str
    config: str
    size: int
    block_size: int
    max_io: int
    data_area: int


class Lio:
    """Raises TcmuError, or OSError when the kernel refuses."""

    def __init__(self) -> None:
        self._lib = need("rtslib_fb")
        if os.geteuid() != 0:
            raise TcmuError("only root may configure LIO: try again with sudo")
        load_target_core_user()
        _make_directories(save_directory())
        with self._errors("LIO's configuration cannot be read"):
            self._root = self._lib.RTSRoot()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._lib.RTSLibError as error:
            raise TcmuError(f"{what}: {error}") from error

    # -- backstores -----------------------------------------------------------------------------------

    def find(self, name: str) -> Any:
        """The storage object of a LUN by its name, vol0 or user_0/vol0."""
        short = name.rpartition("/")[2]
        found = [each for each in self._stores() if utf8(each.name) == short and _full(each).endswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"several LUNs are named {name}: say which of {', '.join(map(_full, found))}")
        known = ", ".join(sorted(utf8(each.name) for each in self._stores())) or "none"
        raise ConfigError(f"no LUN {name}; there are: {known}")

    def _stores(self) -> list[Any]:
        return [each for each in self._root.storage_objects if each.plugin == "user"]

    def make_backstore(self, undo: ExitStack, wanted: Wanted) -> Any:
        """Waits for the kernel, which waits for the daemon. Raises OSError with the errno of its refusal."""
        if any(each.name == wanted.name for each in self._stores()):
            raise ConfigError(f"there is a LUN {wanted.name} already: choose another name, or delete it")
        control = f"hw_block_size={wanted.block_size},max_data_area_mb={max(wanted.data_area >> 20, 1)}"
        with self._errors(f"{wanted.name} cannot be made"):
            store = self._lib.UserBackedStorageObject(
                wanted.name, config=wanted.config, size=wanted.size, control=control,
                hw_max_sectors=wanted.max_io // wanted.block_size,
            )  # fmt: skip
        undo.callback(store.delete)
        return store

    # -- exports --------------------------------------------------------------------------------------

    def export_loopback(self, undo: ExitStack, store: Any) -> Path:
        """Exports as LUN 0 of a SCSI host of its own; returns its target portal group."""
        with self._errors(f"{store.name} cannot be made a disk of this machine"):
            target = self._lib.Target(self._lib.FabricModule("loopback"))
            undo.callback(target.delete)
            group = self._lib.TPG(target, 1)
            self._lib.LUN(group, 0, storage_object=store)
            return Path(group.path)

    def check_iscsi(self, iqn: str, access: Grant) -> None:
        """Raises ConfigError if the target exists and has other rules."""
        with self._errors(f"{iqn} cannot be read"):
            check(Exporter(self._lib).rules(iqn), access)

    def export_iscsi(self, undo: ExitStack, store: Any, iqn: str, access: Grant) -> Exported:
        """Exports over iSCSI. An existing target keeps its portals and rules."""
        with self._errors(f"{store.name} cannot be exported as {iqn}"):
            return Exporter(self._lib).export(undo, store, iqn, access)

    def remove(self, store: Any) -> list[str]:
        """Removes a LUN with its exports. Returns the targets without a LUN left; removes a loopback one."""
        empty = []
        with self._errors(f"{store.name} cannot be removed"):
            groups = [lun.parent_tpg for lun in store.attached_luns]
            store.delete()
            for group in groups:
                target = group.parent_target
                if not any(any(each.luns) for each in target.tpgs):
                    if target.fabric_module.name == "loopback":
                        target.delete()
                    else:
                        empty.append(f"{target.fabric_module.name} {target.wwn}")
        return empty

    def save(self) -> None:
        """Saves the configuration for the next boot, in targetcli's file."""
        try:
            self._root.save_to_file()
        except (self._lib.RTSLibError, RuntimeError) as error:  # RuntimeError: the file cannot be opened
            why = error.__cause__ or error
            raise TcmuError(f"LIO's configuration cannot be saved: {why}; or add --no-save") from error


def save_directory() -> Path:
    """The directory of the saved configuration and of the kernel's persistent reservations: /etc/target, in
    Debian /etc/rtslib-fb-target. Raises TcmuError."""
    return Path(need("rtslib_fb.root").default_save_file).parent


def _make_directories(directory: Path) -> None:
    """Makes LIO's directories, which packages of rtslib alone lack: without them no LUN can be made."""
    try:
        for each in (directory, directory / "pr", directory / "alua"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TcmuError(f"LIO's directory {directory} cannot be made: {error.strerror}") from error


def _full(store: Any) -> str:
    """user_0/vol0"""
    path = Path(store.path)
    return utf8(f"{path.parent.name}/{path.name}")
