"""The filter `error`: Linux sees the very sense that was asked for, and by its seed the same again."""

from __future__ import annotations

import errno
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from support.deadline import command
from support.disk import read, write
from support.fixtures import MIB, MakeBackstore
from support.kernel_log import KernelLog, kernel_log
from support.loopback import Loopback
from support.sg import Reply, raw

PLACE = 16 * MIB  # udev and the kernel's scan of partitions read elsewhere
READ = "28 00 00008000 00 0008 00"  # READ(10): 4096 bytes at PLACE
WRITE = "2a 00 00008000 00 0008 00"  # WRITE(10)
SIZE = 32 * MIB
CALM = 5.5  # seconds: the kernel prints at most ten failures in five
CHANCES = 16  # blocks that are tried with the dice
SETTINGS = """
[stacks.faulty]
handler = "file"
filters = [{ filter = "error" }]

[stacks.seven]
handler = "file"
filters = [{ filter = "error", seed = 7, rules = [DICE] }]

[stacks.eight]
handler = "file"
filters = [{ filter = "error", seed = 8, rules = [DICE] }]
"""
DICE = f'{{ on = "read", offset = {PLACE}, probability = 0.3, sense = "3/11/00" }}'


class Fault(NamedTuple):
    """sense: as asked for. cdb: of the command that meets it. words: for sense key and additional sense, as
    sg3-utils and the kernel have them out of SPC. status: what sg3-utils exits with."""

    sense: str
    cdb: str
    words: str
    status: int

    @property
    def in_the_log(self) -> str:
        """What Linux logs: the words, or where it is built without CONFIG_SCSI_CONSTANTS the numbers."""
        key, code, qualifier = (int(number, 16) for number in self.sense.split("/"))
        numbers = f"{key:#x} .*ASC={code:#x} ASCQ={qualifier:#x}"
        return f"Sense Key : ({self.words}|{numbers})"


FAULTS = [
    Fault("3/11/00", READ, "Medium Error.*Unrecovered read error", 3),
    Fault("3/0c/00", WRITE, "Medium Error.*Write error", 3),
    Fault("4/44/00", READ, "Hardware Error.*Internal target failure", 3),
    Fault("5/21/00", READ, "Illegal Request.*Logical block address out of range", 22),
    Fault("7/27/07", WRITE, "Data Protect.*Space allocation failed write protect", 7),
    Fault("b/4e/00", READ, "Aborted Command.*Overlapped commands attempted", 11),
]


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("settings") / "tcmu-runner.toml"
    settings.write_text(SETTINGS.replace("DICE", DICE))
    return ("--settings", str(settings))


def told(log: KernelLog) -> str:
    """All on one line, for one pattern over several messages."""
    return log.text().replace("\n", " ")


def direct(disk: Path, cdb: str) -> int:
    """The same place through the kernel's own disk driver: its errno, 0 when all is well."""
    try:
        read(disk, PLACE, 4096) if cdb == READ else write(disk, PLACE, b"\x5a" * 4096)
    except OSError as error:
        assert error.errno is not None
        return error.errno
    return 0


def test_the_sense_that_was_asked_for(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """Put in force while the disk is used, and taken away again."""
    disk = loopback.add(make_backstore(f"faulty/{tmp_path}/disk.img", SIZE))
    for fault in FAULTS:
        kind = "read" if fault.cdb == READ else "write"
        rule = f'on = "{kind}", offset = {PLACE}, length = 4096, sense = "{fault.sense}"'
        command("tcmu-runner", "faults", "vol0", "--rule", rule)
        reply = send(disk, fault.cdb)
        assert re.search(fault.words, reply.text, re.DOTALL | re.IGNORECASE), reply.text
        assert reply.status == fault.status
        with kernel_log() as log:
            assert direct(disk, fault.cdb) != 0
            assert re.search(fault.in_the_log, told(log)), log.text()
    command("tcmu-runner", "faults", "vol0", "--clear")
    assert direct(disk, READ) == direct(disk, WRITE) == 0


def send(disk: Path, cdb: str) -> Reply:
    return raw(disk, cdb, receive=4096) if cdb == READ else raw(disk, cdb, send=b"\x5a" * 4096)


def test_a_script_of_faults_goes_on_step_by_step(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    """The second write fails; from then on two reads do; a third is late, and all is well."""
    disk = loopback.add(make_backstore(f"faulty/{tmp_path}/disk.img", SIZE))
    here = f"offset = {PLACE}, length = 4096, times"
    rules = [
        f'on = "write", nth = 2, {here} = 1, sense = "3/0c/00", name = "first"',
        f'on = "read", after = "first", {here} = 2, sense = "3/11/01", name = "then"',
        f'on = "read", after = "then", {here} = 1, delay = 0.5',
    ]
    command("tcmu-runner", "faults", "vol0", *(word for rule in rules for word in ("--rule", rule)))
    replies = [send(disk, READ if step == "r" else WRITE) for step in "rwrwrrrw"]
    seen = ["".join(re.findall(r"Additional sense: (.*)", reply.text)) for reply in replies]
    retried = "Read retries exhausted"
    assert seen == ["", "", "", "Write error", retried, retried, "", ""]
    shown = command("tcmu-runner", "faults", "vol0", "--json")
    assert re.search(r'"applied":\s*\[\s*1,\s*2,\s*1\s*\]', shown), shown


def failing_blocks(disk: Path) -> list[int]:
    """Which of the blocks cannot be read: the errno says so, and the kernel names the very sector."""
    with kernel_log() as log:
        failed = []
        for number in range(CHANCES):
            try:
                read(disk, PLACE + number * 4096, 4096)
            except OSError as error:
                assert error.errno == errno.ENODATA  # BLK_STS_MEDIUM (block/blk-core.c)
                failed.append(number)
        sectors = re.findall(rf"critical medium error, dev {disk.name}, sector (\d+)", log.text())
    assert [(int(sector) * 512 - PLACE) // 4096 for sector in sectors] == failed
    return failed


def test_a_seed_brings_the_same_faults_again(
    make_backstore: MakeBackstore, loopback: Loopback, tmp_path: Path
) -> None:
    seen = []
    for stack in ("seven", "seven", "eight"):
        backstore = make_backstore(f"{stack}/{tmp_path}/disk.img", SIZE)
        disk = loopback.add(backstore)
        time.sleep(CALM)
        seen.append(failing_blocks(disk))
        loopback.remove()
        backstore.remove()
    assert seen[0] == seen[1] != seen[2]
    assert 0 < len(seen[0]) < CHANCES
