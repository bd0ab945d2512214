"""Unit serial numbers: the one for a LUN that has none in LIO, and LUNs that share an identifier.

Initiators take two disks with one NAA identifier for two paths to one disk; SPC-5 7.7.6.6.5 requires it to be
worldwide unique. targetcli gives each backstore a random serial; one made by hand in configfs has none.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tcmu_runner import files
from tcmu_runner.handler.device import without_hba
from tcmu_runner.kernel import sysfs
from tcmu_runner.kernel.configfs import SERIAL_PREFIX, Backstore, ConfigfsError
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.printable import utf8
from tcmu_runner.scsi.profile import Identity
from tcmu_runner.scsi.vpd import naa

RECORD = Path("/var/lib/tcmu-runner/serials.json")
MACHINE_ID = Path("/etc/machine-id")
_NAMESPACE = uuid.UUID("3a5bcf4e-52a5-4c67-9d0c-6a2a3f7d1f0b")  # the hash keeps the machine id private

log = logging.getLogger(__name__)


class Serials:
    """Which serial each LUN has. Methods may be called on any thread.

    A LUN without a serial gets one derived from /etc/machine-id and its name without the HBA, which rtslib
    renumbers at each boot. We write it to the kernel, so that targetcli shows and saves it. Earlier versions
    derived it from the name alone: a LUN that they served keeps that serial, since initiators know it. The
    record file has those serials: after a reboot nothing else distinguishes them.
    """

    def __init__(self, record: Path = RECORD, machine_id: Path = MACHINE_ID) -> None:
        self._path = record
        self._machine_id = machine_id
        self._lock = threading.Lock()
        self._given: dict[str, str] = {}
        self._upgraded = not record.exists()
        self._recorded = _read(record)

    def of(self, name: str) -> str:
        """name: user_0/vol0. Empty before `give`."""
        return self._given.get(name, "")

    def give(self, store: Backstore, *, existed: bool) -> None:
        """Call before the device is served; existed: before this daemon. Blocks, and reads configfs."""
        with self._lock:
            serial = ""
            with suppress(ConfigfsError):  # opening the device fails with the same error, and reports it
                serial = store.serial()
            if not serial:
                serial = self._choose(store.name, existed=existed)
                with suppress(ConfigfsError):  # the kernel refuses a serial while the LUN is exported
                    store.set_serial(serial)
            self._given[store.name] = serial

    def forget(self, name: str) -> None:
        """The kernel has removed the LUN."""
        self._given.pop(name, None)

    def settle(self) -> None:
        """Call once all devices that existed before this daemon have been given one: from then on, a LUN that
        is not in the record was not served by an earlier version. Blocks."""
        with self._lock:
            if self._upgraded:
                self._upgraded = False
                self._save()

    def _choose(self, name: str, *, existed: bool) -> str:
        if existed and self._upgraded and name not in self._recorded:
            self._keep(name, _named(uuid.NAMESPACE_URL, f"tcmu:{name}"))
        taken = {serial for other, serial in self._given.items() if other != name}
        free = (each for each in self._candidates(name) if each not in taken)
        if (found := next(free, None)) is not None:
            return found
        return self._keep(name, str(uuid.uuid4()))

    def _candidates(self, name: str) -> list[str]:
        short = without_hba(name)
        recorded = [self._recorded[name]] if name in self._recorded else []
        same_name = {serial for each, serial in self._recorded.items() if without_hba(each) == short}
        if not recorded and len(same_name) == 1:
            recorded = list(same_name)
        try:
            machine = self._machine_id.read_text().strip()
        except OSError:
            machine = ""
        if not machine:
            return recorded
        return [*recorded, *(_named(_NAMESPACE, f"{machine}:{each}") for each in (short, name))]

    def _keep(self, name: str, serial: str) -> str:
        self._recorded[name] = serial
        self._save()
        return serial

    def _save(self) -> None:
        try:
            files.write_whole(self._path, json.dumps(self._recorded, indent=2, sort_keys=True))
        except OSError as error:
            level = logging.WARNING if self._recorded else logging.INFO
            text = "%s cannot be written: %s: LUNs without a serial may have another one after a reboot"
            log.log(level, text, self._path, error.strerror)


def _named(namespace: uuid.UUID, name: str) -> str:
    """A version 5 UUID; `name` may have any bytes, as the kernel's names do."""
    return str(uuid.uuid5(namespace, utf8(name)))


def _read(record: Path) -> dict[str, str]:
    try:
        found = json.loads(record.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s: LUNs without a serial get new ones", record, error)
        return {}
    return {str(name): str(serial) for name, serial in found.items()} if isinstance(found, dict) else {}


def twins(paths: Paths) -> list[tuple[str, list[str]]]:
    """NAA identifiers that several backstores of this machine share, with the backstores' names
    (user_0/vol0). Blocks while the removal of a backstore waits for the daemon."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sysfs.find(paths.target, "core/*_*/*/wwn/vpd_unit_serial"):
        store = file.parent.parent
        with suppress(OSError, ValueError):  # the backstore was removed meanwhile
            if serial := sysfs.read(file).removeprefix(SERIAL_PREFIX.rstrip()).strip():
                found[_naa(store, serial)].append(f"{store.parent.name}/{store.name}")
    return [(identifier, names) for identifier, names in found.items() if len(names) > 1]


class Twins:
    """Reports each pair of LUNs with the same identifier once. Methods block as `twins` does."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._told: set[tuple[str, str]] = set()  # NAA and name

    def new(self) -> dict[str, str]:
        """A warning for each backstore that has a new twin, by its name."""
        found = {(each, name): names for each, names in twins(self._paths) for name in names}
        new = {key: names for key, names in found.items() if key not in self._told}
        self._told = set(found)
        return {name: _same(each, [n for n in names if n != name]) for (each, name), names in new.items()}


def _same(identifier: str, others: list[str]) -> str:
    what = f"same identifier as {', '.join(others)}, naa.{identifier}: initiators take them for one disk"
    return f"{what}: give one another wwn/vpd_unit_serial while it is not exported"


def _naa(store: Path, serial: str) -> str:
    company = Identity().company_id
    with suppress(FileNotFoundError):  # kernels before 5.8
        company = int(sysfs.read(store / "wwn/company_id"), 16)
    return naa(Identity(serial=serial, company_id=company)).hex()
