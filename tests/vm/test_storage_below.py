"""A local disk below a handler that is slow, and one that stands still for a while: nothing fails.

CI waits for seconds. The full test: TCMU_TEST_GONE_SECONDS=60.
"""

import os
import time
from pathlib import Path

import pytest
from support.filesystem import HELD_UP
from support.fio import Job, verifying
from support.fixtures import MIB, ExpectedLog, MakeBackstore
from support.loopback import Loopback
from support.lower_disk import LowerDisk

GONE_SECONDS = float(os.environ.get("TCMU_TEST_GONE_SECONDS", "4"))
PATIENCE = 300  # seconds that the initiator gives a command


@pytest.mark.parametrize("config", ["file/{}/disk.img;direct", "zstd/{}/disk.zdb"])
def test_a_disk_that_is_slow_and_one_that_stands_still(
    make_backstore: MakeBackstore, loopback: Loopback, lower: LowerDisk, expected_log: ExpectedLog,
    config: str,
) -> None:  # fmt: skip
    expected_log(HELD_UP, optional=True)
    backstore = make_backstore(config.format(lower.mountpoint), 64 * MIB)
    backstore.store("attrib/cmd_time_out", 0)
    disk = loopback.add(backstore)
    (Path("/sys/block") / disk.name / "device/timeout").write_text(str(PATIENCE))
    with verifying(Job(disk, 4 * MIB, depth=8), "--fsync=20") as fio:
        lower.be_slow(20)
        fio.progress(50)
        lower.be_quick()
        fio.progress(50)
        lower.stand_still()
        time.sleep(GONE_SECONDS)
        lower.go_on()
        fio.progress(50)
    loopback.remove()
    backstore.remove()
