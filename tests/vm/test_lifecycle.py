"""Many devices, and many times the same one: nothing stays behind, everybody is served, the log has names.

The number of devices below is for CI. The full one: TCMU_TEST_LUNS=64.
"""

import os
import time

from support import disk as raw
from support import processes
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import eventually
from support.fixtures import MIB, MakeBackstore
from support.loopback import Loopback
from support.processes import Holdings, holdings

ROUNDS = 100
SPARE = "tcmu-idle"
DEVICES = int(os.environ.get("TCMU_TEST_LUNS", "32"))
INTERVAL = 5.0  # seconds
SMALL = {"max_data_area_mb": 1, "cmd_ring_size_mb": 1}
GROWTH = 4 * MIB  # a heap's own movement; 100 devices that leaked their statistics alone would be 6.5 MiB


def settled() -> dict[str, Holdings]:
    """What the lasting processes hold, once the workers of removed devices are gone."""
    eventually("the end of the workers", lambda: not processes.named(processes.WORKER))
    eventually("a spare worker", lambda: len(processes.named(SPARE)) == 1)  # it costs a descriptor, too
    names = (processes.SUPERVISOR, processes.TEMPLATE, processes.GUARDIAN)
    return {name: holdings(pid) for name in names for pid in processes.named(name)}


def idle_load() -> float:
    """Share of a CPU that all processes of the daemon take together."""
    everybody = processes.all_of_the_daemon()
    before = processes.cpu_seconds(*everybody)
    time.sleep(INTERVAL)
    return (processes.cpu_seconds(*everybody) - before) / INTERVAL


def create_and_delete(name: str) -> None:
    backstore = Backstore.create(name, "ram/", 4 * MIB, control=SMALL)
    backstore.enable()
    backstore.remove()


def test_creating_and_deleting_leaves_nothing_behind(daemon: Daemon) -> None:
    for number in range(5):  # what is loaded or cached at the first times
        create_and_delete(f"first{number}")
    before = settled()
    for number in range(ROUNDS):
        create_and_delete(f"vol{number}")
    after = settled()
    assert processes.uio_devices() == []
    for name, held in after.items():
        assert (held.files, held.threads) == (before[name].files, before[name].threads), name
        assert held.memory < before[name].memory + GROWTH, name


def test_many_devices_at_once(daemon: Daemon, loopback: Loopback) -> None:
    """Each is read and written, and none shows another's bytes."""
    disks = []
    for number in range(DEVICES):
        backstore = Backstore.create(f"vol{number}", "ram/", 4 * MIB, control=SMALL)
        backstore.enable()
        disks.append(loopback.add(backstore, lun=number))
    assert len(processes.uio_devices()) == DEVICES
    for number, disk in enumerate(disks):
        raw.write(disk, 4096 * number, bytes([number]) * 4096)
    for number, disk in enumerate(disks):
        assert raw.read(disk, 4096 * number, 4096) == bytes([number]) * 4096
        assert raw.read(disk, 4096 * (number + 1), 4096) == bytes(4096)
    workers = processes.named(processes.WORKER)
    assert len(workers) == DEVICES
    print(f"CPU of the idle daemon: {100 * idle_load():.1f} %")
    own = sorted(processes.own_memory(pid) for pid in workers)
    print(
        f"own memory of a worker: median {own[len(own) // 2] / MIB:.1f} MiB, at most {own[-1] / MIB:.1f} MiB"
    )


def test_the_log_has_names_a_person_recognises(
    daemon: Daemon, make_backstore: MakeBackstore, tmp_path: object
) -> None:
    backstore = make_backstore(f"file/{tmp_path}/disk.img")
    backstore.remove()
    daemon.wait_for_log(r"\d+ handlers found, 0 devices found")
    daemon.wait_for_log(rf"user_0/vol0 \(file/{tmp_path}/disk\.img\): added, 64 MiB in blocks of 512 bytes")
    daemon.wait_for_log(rf"user_0/vol0 \(file/{tmp_path}/disk\.img\): removed")
