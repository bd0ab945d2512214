"""Which machine each test needs, and why: the one place that says so.

All of them run in user-mode Linux, which has one processor and is quick (`./dev test kernel`). QEMU has two,
emulated, and Debian's unchanged kernel: `./dev test qemu` runs what is said below once more there, and
`--everything` runs all.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

# Runs in QEMU, too. Races between processors can be lost on two only; QEMU runs Python fifteen times slower,
# so only these of their modules are for it, with the counts that `./dev test qemu` sets.
IN_QEMU_TOO = {
    "test_boot.py::test_the_kernel_is_a_real_one_with_lio": "the machine itself",
    "test_boot.py::test_a_disk_of_ours_through_tcm_loop": "the machine itself",
    "test_boot.py::test_two_initiators_of_one_iscsi_target": "two sessions on two processors",
    "test_processes.py::test_of_many_devices_at_once_none_is_lost": "a storm of events",
    "test_processes.py::test_shared_workers_are_replaced_for_their_own_devices_only": "a kill under load",
    "test_recovery.py::test_a_reset_from_outside_is_survived": "two that change a ring at once",
    "test_recovery.py::test_killed_daemons_cost_no_error": "kills under load",
    "test_recovery.py::test_killed_workers_cost_no_error": "kills under load",
    "test_removal.py::test_removal_under_io": "a device that goes while commands come",
    "test_ring_limits.py": "a ring that both sides fill and empty at once",
    "test_verify.py::test_random_writes[file-4096]": "commands of two processors in one ring",
}
# What any kernel may do in its own way: runs on each of the machines, with `--core`.
CORE = {
    "test_boot.py": "the ring, over tcm_loop and over iSCSI with open-iscsi",
    "test_kernel_pieces.py": "uio, netlink, configfs",
    "test_lifecycle.py": "create and remove",
    "test_refusals.py": "netlink refusals",
    "test_removal.py": "remove under load",
    "test_resize.py": "resize",
    "test_recovery.py": "recovery, and task management",
    "test_initiators.py": "open-iscsi",
    "test_verify.py": "every byte",
    "test_ring_limits.py": "the ring's ends",
    "test_targetcli.py": "targetcli of the release",
}
# Seconds that a module takes in user-mode Linux (measured), to divide the tests among machines; any other
# takes a few.
SECONDS = {
    "test_recovery.py": 175,
    "test_stops.py": 175,
    "test_commands.py": 95,
    "test_doctor.py": 75,
    "test_lifecycle.py": 55,
    "test_unit_state.py": 45,
    "test_sg3.py": 45,
    "test_ceph.py": 40,
    "test_documents.py": 35,
    "test_refusals.py": 35,
    "test_defects.py": 30,
    "test_faults.py": 30,
    "test_luks.py": 30,
    "test_processes.py": 30,
    "test_conformance.py": 20,
    "test_embedded.py": 20,
    "test_resize.py": 20,
    "test_rescue.py": 15,
    "test_cdb_bits.py": 5,
    "test_kernel_pieces.py": 5,
    "test_names.py": 5,
    "test_settings.py": 5,
    "test_space.py": 5,
}
A_FEW = 15


def in_qemu() -> bool:
    return "User Mode Linux" not in Path("/proc/cpuinfo").read_text()


def belongs(item: pytest.Item, names: dict[str, str]) -> bool:
    """Whether `names` has the test, by its module or by itself."""
    name = item.nodeid.rpartition("/")[2]
    return any(name == listed or name.startswith((f"{listed}::", f"{listed}[")) for listed in names)


def wanted(item: pytest.Item) -> bool:
    """Whether this machine is the one for the test."""
    return not in_qemu() or belongs(item, IN_QEMU_TOO)


def part_of(modules: Sequence[str], part: str) -> set[str]:
    """The modules of part "I/N": the longest first, each to the part that has least to do."""
    index, count = map(int, part.split("/"))
    loads = [(0, number, list[str]()) for number in range(1, count + 1)]
    for module in sorted(modules, key=lambda module: (-SECONDS.get(module, A_FEW), module)):
        load, number, members = min(loads)
        loads[number - 1] = (load + SECONDS.get(module, A_FEW), number, [*members, module])
    return set(loads[index - 1][2])
