"""A real Prometheus scrapes a LUN of `tcmu-runner try`, and promtool has nothing to say to its metrics."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

SECONDS = 120.0
CONFIGURATION = """
global: {{ scrape_interval: 1s }}
scrape_configs: [{{ job_name: tcmu, static_configs: [{{ targets: ["{address}"] }}] }}]
"""


@pytest.fixture
def address() -> Iterator[str]:
    """HOST:PORT of the metrics of a disk of 1 MiB that has been read."""
    program = [sys.executable, "-m", "tcmu_runner.cli.main", "try", "ram", "--size", "1M", "--metrics", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        shown = ""
        for line in running.stdout:
            shown += line
            if "ends it" in line:
                break
        (url,) = re.findall(r"^  (iscsi://\S+)$", shown, re.MULTILINE)
        subprocess.run(["qemu-io", "-r", "-f", "raw", "-c", "read 0 1M", url], check=True, timeout=60)
        (found,) = re.findall(r"http://(\S+)/ shows", shown)
        yield found
        running.terminate()
        assert running.wait(60) == 0


def test_promtool_has_nothing_to_say(address: str) -> None:
    with urlopen(f"http://{address}/metrics", timeout=60) as answer:
        metrics = answer.read()
    assert b'tcmu_commands_total{device="lun0",opcode="READ(' in metrics
    lint = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


def test_prometheus_takes_the_metrics(address: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(address=address))
    program = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    program.append(f"--web.listen-address=127.0.0.1:{port}")
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(program, stdout=log, stderr=log)
    try:
        wait_for(port, 'up{job="tcmu"} == 1')
        assert wait_for(port, 'tcmu_device_size_bytes{device="lun0"}') == 1 << 20
        assert wait_for(port, 'tcmu_device_state{device="lun0",state="serving"}') == 1
        assert wait_for(port, 'sum(tcmu_bytes_total{device="lun0",opcode=~"READ.*"})') >= 1 << 20
        buckets = "sum by (le) (tcmu_command_duration_seconds_bucket)"
        assert wait_for(port, f"histogram_quantile(0.99, {buckets})") > 0
    finally:
        server.terminate()
        server.wait(60)


def wait_for(port: int, query: str) -> float:
    """The value of the one series that it finds in the end."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={quote(query)}"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
            if found:
                return float(found[0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(f"{query} finds nothing")
