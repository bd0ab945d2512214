"""A Ceph cluster on loopback: one monitor and one OSD, which stores in a file."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMMAND_SECONDS = 120.0
LOOK_SECONDS = 10.0
LOG_TAIL = 20_000  # characters
FSID = "3f1c2f8e-6a52-4f5c-9c53-0f9a3b1f7a11"
# The OSD's file is sparse. Its database alone may take a gigabyte, and where that has no room the OSD aborts.
OSD_SIZE = 8 << 30
# The read lease is 200 s, longer than any test has the OSD stand still: a placement group whose lease has run
# out on its only OSD may keep all requests for ever (a bug of Ceph's, https://tracker.ceph.com/issues/80404).
CONFIGURATION = """[global]
fsid = {fsid}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_bind_ipv6 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
mon_host = [v2:127.0.0.1:{port}/0]
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_osd_min_down_reporters = 1
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_memory_target = 939524096
osd_pool_default_read_lease_ratio = 10.0
bluestore_block_size = {size}
mon_data = {home}/mon
osd_data = {home}/osd
mgr_data = {home}/mgr
run_dir = {home}
admin_socket =
pid_file = {home}/$name.pid
log_file = {home}/$name.log
mon_cluster_log_file = {home}/cluster.log
"""


class Ceph:
    """home: an empty directory, everything is below it. conf: what clients need."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.conf = home / "ceph.conf"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.conf.write_text(CONFIGURATION.format(fsid=FSID, port=self._port, home=home, size=OSD_SIZE))
        self._monitor: subprocess.Popen[bytes] | None = None
        self._osd: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Makes the cluster and a pool `rbd`, and leaves it running: some fifteen seconds."""
        home = self.home
        monitor = ("--addv", "a", f"[v2:127.0.0.1:{self._port}/0]", "--fsid", FSID)
        self._run("monmaptool", "--create", *monitor, f"{home}/map")
        self._run("ceph-mon", "-c", str(self.conf), "--mkfs", "-i", "a", "--monmap", f"{home}/map")
        self._monitor = self._launch("ceph-mon", "-i", "a")
        self.ceph("osd", "new", FSID)
        (home / "osd").mkdir()
        self._run("ceph-osd", "-c", str(self.conf), "-i", "0", "--mkfs", "--osd-uuid", FSID)
        self.start()
        self.ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
        self.ceph("osd", "pool", "create", "rbd", "8")
        self.rbd("pool", "init", "rbd")

    def start(self) -> None:
        """The OSD. Returns when the cluster has it."""
        log = self.home / "osd.0.log"
        before = log.stat().st_size if log.exists() else 0
        self._osd = self._launch("ceph-osd", "-i", "0")
        deadline = time.monotonic() + COMMAND_SECONDS
        while not self._is_active(log, before):
            assert self._osd.poll() is None and time.monotonic() < deadline, self.state()
            time.sleep(0.05)

    @staticmethod
    def _is_active(log: Path, since: int) -> bool:
        with suppress(FileNotFoundError), log.open("rb") as text:
            text.seek(since)
            return b"state: booting -> active" in text.read()
        return False

    def kill(self) -> None:
        """SIGKILL for the OSD."""
        assert self._osd is not None
        self._osd.kill()
        self._osd.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the OSD: SIGSTOP is as if the network were gone."""
        assert self._osd is not None
        self._osd.send_signal(number)

    def close(self) -> None:
        for process in (self._osd, self._monitor):
            if process is not None:
                process.kill()
                process.wait()

    @contextmanager
    def manager(self) -> Iterator[None]:
        """With a ceph-mgr, which knows what services there are."""
        (self.home / "mgr").mkdir(exist_ok=True)
        process = self._launch("ceph-mgr", "-i", "x")
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def ceph(self, *arguments: str) -> str:
        return self._run("ceph", "-c", str(self.conf), "--connect-timeout", "60", *arguments)

    def rbd(self, *arguments: str) -> str:
        return self._run("rbd", "-c", str(self.conf), *arguments)

    def full(self, *, full: bool) -> None:
        """It counts as full with hardly anything in it, or with nearly everything. Returns when it knows."""
        scale = 1e-4 if full else 0.3
        for name, ratio in (("nearfull", 1), ("backfillfull", 2), ("full", 3)):
            self.ceph("osd", f"set-{name}-ratio", str(ratio * scale))
        deadline = time.monotonic() + COMMAND_SECONDS
        while ("pool(s) full" in self.ceph("health")) is not full:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def state(self) -> str:
        """What an administrator would look at, without what needs a manager, and the end of the OSD's log."""
        assert self._osd is not None
        ended = self._osd.poll()
        parts = ["the OSD runs" if ended is None else f"the OSD has ended with status {ended}"]
        for words in ("-s", "osd dump", "tell osd.0 status", "tell osd.0 dump_ops_in_flight"):
            command = ["ceph", "-c", str(self.conf), *words.split()]
            with suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=LOOK_SECONDS, check=False
                )
                parts.append(f"ceph {words}\n{done.stdout}{done.stderr}")
        log = (self.home / "osd.0.log").read_text(errors="replace")
        return "\n".join([*parts, log[-LOG_TAIL:]])

    def _launch(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{program}.out").open("ab") as log:
            return subprocess.Popen(
                [program, "-c", str(self.conf), "-f", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @staticmethod
    def _run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout
