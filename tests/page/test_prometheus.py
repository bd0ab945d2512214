"""A real Prometheus scrapes the daemon."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from conftest import Act

SECONDS = 90.0
CONFIGURATION = """
global: {{ scrape_interval: 1s }}
scrape_configs: [{{ job_name: tcmu, static_configs: [{{ targets: ["{address}"] }}] }}]
"""


class Prometheus:
    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def ask(self, query: str) -> list[dict[str, str]]:
        """Labels of each series, with its value under ""."""
        url = f"{self.url}/api/v1/query?query={quote(query)}"
        with suppress(OSError), urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
            return [{**series["metric"], "": series["value"][1]} for series in found]
        return []

    def wait_for(self, query: str) -> list[dict[str, str]]:
        deadline = time.monotonic() + SECONDS
        while not (found := self.ask(query)):
            assert time.monotonic() < deadline, f"{query} is empty\n{self.log.read_text()}"
            time.sleep(0.2)
        return found


@pytest.fixture
def prometheus(tmp_path: Path, address: str) -> Iterator[Prometheus]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration, log = tmp_path / "prometheus.yml", tmp_path / "log"
    configuration.write_text(CONFIGURATION.format(address=address))
    with log.open("wb") as output, subprocess.Popen(
        [
            "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=output, stderr=output,
    ) as server:  # fmt: skip
        yield Prometheus(port, log)
        server.terminate()


def test_prometheus_takes_the_metrics(prometheus: Prometheus, act: Act) -> None:
    act("make", "scraped", "ram/", 5)
    (up,) = prometheus.wait_for("up == 1")
    assert up["job"] == "tcmu"
    commands = 'tcmu_commands_total{device="user_0/scraped",opcode="READ(10)"}'
    assert prometheus.wait_for(f"{commands} > 0"), "udev reads each new disk"
    assert prometheus.wait_for('tcmu_device_state{device="user_0/scraped",state="serving"} == 1')
    (size,) = prometheus.wait_for('tcmu_device_size_bytes{device="user_0/scraped"}')
    assert size[""] == str(64 << 20)
    quantile = "histogram_quantile(0.99, sum by (le) (tcmu_command_duration_seconds_bucket)) > 0"
    assert prometheus.wait_for(quantile)
    act("remove", "scraped", 5)
    prometheus.wait_for('absent(tcmu_device_info{device="user_0/scraped"})')


def test_promtool_has_nothing_to_say(address: str, act: Act) -> None:
    act("make", "checked", "ram/", 6)
    with urlopen(f"http://{address}/metrics", timeout=30) as answer:
        metrics = answer.read()
    act("remove", "checked", 6)
    assert b'device="user_0/checked"' in metrics
    lint = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")
