"""What is made and removed in LIO, by rtslib-fb: targetcli sees the same, and saves it in the same file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcmu_runner.cli.library import need
from tcmu_runner.errors import ConfigError, TcmuError
from tcmu_runner.kernel.modules import load_target_core_user


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a LUN over iSCSI. initiators: their IQNs. user, secret: CHAP, where there is a user."""

    portal: str
    initiators: Sequence[str] = ()
    anybody: bool = False
    user: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A backstore. Bytes: size, block_size, max_io (a transfer), data_area (of all commands under way)."""

    name: str
    config: str
    size: int
    block_size: int
    max_io: int
    data_area: int


class Lio:
    """Raises TcmuError, or OSError where the kernel refuses."""

    def __init__(self) -> None:
        self._lib = need("rtslib_fb")
        if os.geteuid() != 0:
            raise TcmuError("only root may configure LIO: try again with sudo")
        load_target_core_user()
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
        found = [each for each in self._stores() if each.name == short and _full(each).endswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"several LUNs are named {name}: say which of {', '.join(map(_full, found))}")
        known = ", ".join(sorted(each.name for each in self._stores())) or "none"
        raise ConfigError(f"no LUN {name}; there are: {known}")

    def _stores(self) -> list[Any]:
        return [each for each in self._root.storage_objects if each.plugin == "user"]

    def make_backstore(self, undo: ExitStack, wanted: Wanted) -> Any:
        """The kernel asks the daemon, and this waits. Raises OSError with the errno of its refusal."""
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
        """As LUN 0 of a SCSI host of its own; returns its target portal group."""
        with self._errors(f"{store.name} cannot be made a disk of this machine"):
            target = self._lib.Target(self._lib.FabricModule("loopback"))
            undo.callback(target.delete)
            group = self._lib.TPG(target, 1)
            self._lib.LUN(group, 0, storage_object=store)
            return Path(group.path)

    def export_iscsi(self, undo: ExitStack, store: Any, iqn: str, access: Access) -> int:
        """Returns the LUN's number in the target. A target that exists keeps its portals and rules; its
        initiators get the LUN, too."""
        with self._errors(f"{store.name} cannot be exported as {iqn}"):
            fabric = self._lib.FabricModule("iscsi")
            known = {target.wwn: target for target in fabric.targets}
            group = self._group(known[iqn]) if iqn in known else self._make_target(undo, fabric, iqn, access)
            lun = self._lib.LUN(group, storage_object=store)
            undo.callback(lun.delete)
            for initiator in access.initiators:
                self._admit(undo, group, initiator, access)
            for rule in group.node_acls:
                number = _free({mapped.mapped_lun for mapped in rule.mapped_luns}, lun.lun)
                undo.callback(self._lib.MappedLUN(rule, number, lun.lun).delete)
            return int(lun.lun)

    def _group(self, target: Any) -> Any:
        return next(iter(sorted(target.tpgs, key=lambda group: group.tag)))

    def _make_target(self, undo: ExitStack, fabric: Any, iqn: str, access: Access) -> Any:
        if not (access.initiators or access.anybody):
            raise ConfigError("who may log in? Say --initiator IQN, or --any-initiator")
        address, _, port = access.portal.rpartition(":")
        target = self._lib.Target(fabric, iqn)
        undo.callback(target.delete)
        group = self._lib.TPG(target, 1)
        group.set_attribute("authentication", int(bool(access.user)))
        if access.anybody:
            for name, value in (
                ("generate_node_acls", 1), ("cache_dynamic_acls", 1), ("demo_mode_write_protect", 0),
            ):  # fmt: skip
                group.set_attribute(name, value)
            if access.user:
                group.chap_userid, group.chap_password = access.user, access.secret
        self._lib.NetworkPortal(group, address, int(port))
        group.enable = True
        return group

    def _admit(self, undo: ExitStack, group: Any, initiator: str, access: Access) -> None:
        if initiator in {rule.node_wwn for rule in group.node_acls}:
            return
        rule = self._lib.NodeACL(group, initiator)
        undo.callback(rule.delete)
        if access.user:
            rule.chap_userid, rule.chap_password = access.user, access.secret

    def remove(self, store: Any) -> list[str]:
        """A LUN with its exports. Returns the targets that have no LUN any more; a loopback one goes, too."""
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
        """For the next boot, in targetcli's file."""
        with self._errors("LIO's configuration cannot be saved"):
            self._root.save_to_file()


def _full(store: Any) -> str:
    """user_0/vol0"""
    path = Path(store.path)
    return f"{path.parent.name}/{path.name}"


def _free(taken: set[int], wanted: int) -> int:
    while wanted in taken:
        wanted += 1
    return wanted
