"""What only `rbd` has: locks and fencing, sizes, a full cluster."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cases.rbd import RbdBackend, cluster
from harness.case import Case
from harness.served import Served

from tcmu_runner.errors import ConfigError
from tcmu_runner.handler.device import Device
from tcmu_runner.handlers.rbd import RbdHandler
from tcmu_runner.scsi.sense import IN_STANDBY, ScsiError

pytestmark = pytest.mark.xdist_group("ceph")
SIZE = 16 << 20
PATIENCE = 60.0


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RbdBackend]:
    made = RbdBackend(tmp_path, SIZE)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def served(tmp_path: Path, backend: RbdBackend) -> Iterator[Served]:
    lun = Served(tmp_path, Case("rbd", RbdBackend, size=SIZE), backend)
    lun.start()
    yield lun
    lun.stop()
    assert lun.unexpected() == []


def options(backend: RbdBackend, more: str = "") -> Any:
    return RbdHandler.parse(backend.config.partition("/")[2] + more)


def within(seconds: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_full_cluster_lets_writes_wait(served: Served) -> None:
    with served.connect() as lun:
        for number in range(4):
            lun.write(number << 20, b"a" * (1 << 20))
        lun.flush()
        cluster().full(full=True)
        writer = threading.Thread(target=lun.write, args=(12 << 20, b"b" * 4096))  # takes space
        writer.start()
        writer.join(3)
        assert writer.is_alive()
        cluster().full(full=False)
        writer.join(PATIENCE)
        assert not writer.is_alive()
        assert lun.read(12 << 20, 4096) == b"b" * 4096


def test_the_cluster_shows_the_disk(backend: RbdBackend, served: Served) -> None:
    """`ceph service status`, with what the C daemon tells there."""
    name = f"{socket.gethostname()}:rbd/{backend.image}"

    def shown() -> dict[str, Any]:
        known: dict[str, Any] = json.loads(cluster().ceph("service", "status", "--format", "json"))
        found: dict[str, Any] = known.get("tcmu-runner", {}).get(name, {})
        return found

    def metadata() -> dict[str, Any]:
        services = json.loads(cluster().ceph("service", "dump", "--format", "json"))["services"]
        found: dict[str, Any] = (
            services.get("tcmu-runner", {}).get("daemons", {}).get(name, {}).get("metadata", {})
        )
        return found

    with cluster().manager(), served.connect() as lun:
        lun.write(0, b"a" * 4096)
        within(PATIENCE, lambda: bool(shown()))
        assert shown()["status"] == {
            "cmd_timed_out_cnt": "0", "conn_lost_cnt": "0", "lock_lost_cnt": "0", "lock_owner": "false",
        }  # fmt: skip
        within(PATIENCE, lambda: bool(metadata()))  # the manager tells the monitor every few seconds
        assert (metadata()["pool_name"], metadata()["image_name"]) == ("rbd", backend.image)


def test_an_image_tells_its_size(backend: RbdBackend) -> None:
    assert RbdHandler.probe(options(backend)) == SIZE


def test_initiators_hear_of_a_resize_elsewhere(backend: RbdBackend, served: Served) -> None:
    with served.connect() as lun:
        cluster().rbd("resize", "--no-progress", "--size", f"{2 * SIZE}B", f"rbd/{backend.image}")
        within(PATIENCE, lambda: lun.capacity() == 2 * SIZE)
        lun.write(2 * SIZE - 4096, b"c" * 4096)


def test_a_snapshot_is_write_protected(backend: RbdBackend) -> None:
    cluster().rbd("snap", "create", "--no-progress", f"rbd/{backend.image}@before")

    async def run() -> None:
        path = f"rbd/{backend.image}@before;conf={cluster().conf}"
        disk = await RbdHandler.open(Device("d", SIZE), RbdHandler.parse(path))
        assert not disk.capabilities().write
        await disk.close()

    asyncio.run(run())
    cluster().rbd("snap", "rm", "--no-progress", f"rbd/{backend.image}@before")


@pytest.mark.parametrize(
    ("config", "size", "reason"),
    [
        ("nosuch/disk", SIZE, "no pool nosuch"),
        ("rbd/nosuch", SIZE, "rbd/nosuch cannot be opened"),
        ("rbd/{image};id=nobody;conf=/nosuch.conf", SIZE, "/nosuch.conf cannot be read"),
        ("rbd/{image}", 2 * SIZE, "make the disk smaller, or rbd resize --size 33554432B rbd/"),
    ],
)
def test_what_cannot_be_opened_says_why(backend: RbdBackend, config: str, size: int, reason: str) -> None:
    text = config.format(image=backend.image)
    text += "" if "conf=" in text else f";conf={cluster().conf}"
    with pytest.raises((ConfigError, OSError)) as refused:
        asyncio.run(RbdHandler.open(Device("d", size), RbdHandler.parse(text)))
    assert reason in str(refused.value)


# -- locks ----------------------------------------------------------------------------------------------


HOLDER = """
import asyncio, sys
from tcmu_runner.handler.device import Device
from tcmu_runner.handlers.rbd import RbdHandler
async def main():
    disk = await RbdHandler.open(Device("other", int(sys.argv[2])), RbdHandler.parse(sys.argv[1]))
    print("open", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def holder(backend: RbdBackend) -> Iterator[subprocess.Popen[str]]:
    """Another process that keeps the image's lock."""
    path = backend.config.partition("/")[2] + ";exclusive"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, str(SIZE)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with process:
        yield process
        process.kill()


def test_a_living_holder_keeps_the_lock(backend: RbdBackend, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OSError, match="is locked by another host"):
        asyncio.run(RbdHandler.open(Device("d", SIZE), options(backend, ";exclusive")))
    assert holder.poll() is None


def test_a_process_of_this_host_that_died_is_fenced_at_once(
    backend: RbdBackend, holder: subprocess.Popen[str]
) -> None:
    """Ceph by itself waits for 30 s: nobody has to wait for a worker that was killed."""
    holder.kill()
    holder.wait()
    before = cluster().ceph("osd", "blocklist", "ls")

    async def run() -> None:
        disk = await RbdHandler.open(Device("d", SIZE), options(backend, ";exclusive"))
        await disk.write([memoryview(bytearray(b"x" * 512))], 0)
        await disk.close()

    asyncio.run(run())
    assert len(cluster().ceph("osd", "blocklist", "ls").splitlines()) > len(before.splitlines())


def test_who_was_fenced_is_in_standby_until_the_lock_is_free_again(
    backend: RbdBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        disk = await RbdHandler.open(Device("d", SIZE), options(backend, ";exclusive"))
        data = [memoryview(bytearray(b"x" * 512))]
        await disk.write(data, 0)
        assert disk._image is not None
        await asyncio.to_thread(cluster().ceph, "osd", "blocklist", "add", disk._image.cluster.address())
        with pytest.raises(OSError, match="shutdown"):
            while True:
                await disk.write(data, 0)
        with pytest.raises(ScsiError) as standby:
            await disk.write(data, 0)
        assert standby.value.sense == IN_STANDBY
        while disk._image is None:
            await asyncio.sleep(0.1)
        await disk.write(data, 512)
        await disk.close()

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert "lost the lock" in caplog.text
    assert "is open again" in caplog.text
