"""`tcmu-runner try`, by its functions and as a program."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tcmu_runner.cli import try_
from tcmu_runner.cli.arguments import parser
from tcmu_runner.errors import ConfigError, TcmuError

HANDLER = """
from tcmu_runner import Handler
class Ram(Handler):
    subtype = "ram"
    threads = 0
    @classmethod
    def open(cls, device, config):
        self = cls()
        self.disk = memoryview(bytearray(device.size))
        return self
    def read(self, into, offset):
        for buf in into:
            buf[:] = self.disk[offset:offset + len(buf)]
            offset += len(buf)
"""


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tcmu_runner.cli.main", "try", *arguments]


def parse(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["try", *arguments])


def test_options() -> None:
    options = parse("file", "/var/tmp/a.img", "--size", "1.5G", "--block-size", "4096", "--run", "true")
    assert (options.handler, options.config, options.size) == ("file", "/var/tmp/a.img", 3 << 29)
    assert (options.block_size, options.run) == (4096, "true")


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("ram", "--size", "big")
    assert "is not a size" in capsys.readouterr().err


def test_serials() -> None:
    assert (parse("ram", "--serial", "vol 7").serial, parse("ram").serial) == ("vol 7", None)


@pytest.mark.parametrize("text", ["", "\u00e4", "a\nb", "x" * 254])
def test_a_serial_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("ram", "--serial", text)
    assert "1 to 253 printable ASCII characters" in capsys.readouterr().err


def test_handlers_by_name_and_by_file(tmp_path: Path) -> None:
    """A file may have the subtype of an installed handler: it is looked at alone."""
    path = tmp_path / "mine.py"
    path.write_text(HANDLER)
    assert try_.find_handler("file", "/tmp/x")[1] == "file//tmp/x"
    assert try_.find_handler("ram/", "")[1] == "ram/"
    registry, config = try_.find_handler(str(path), "c")
    assert config == "ram/c"
    assert len(registry) == 1


def test_a_file_with_two_handlers(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HANDLER + "class Other(Ram):\n    subtype = 'other'\n")
    with pytest.raises(ConfigError, match="several handlers: ram, other"):
        try_.find_handler(str(path), "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no handler 'nosuch'"),
        (["ram", "--host", "0.0.0.0"], "demand credentials"),
        (["ram", "--user", "bob"], "CHAP_SECRET"),
        (["ram", "--block-size", "100"], "is not one of"),
    ],
)
def test_refusals(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAP_SECRET", raising=False)
    options = parse(*arguments)
    with pytest.raises(TcmuError, match=message):
        try_.run(options)


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_run_gives_the_commands_exit_status(tmp_path: Path, command: str, status: int) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HANDLER)
    out = tmp_path / "uri"
    done = subprocess.run(
        program(str(path), "--size", "1M", "--run", f"echo $uri > {out}; {command}"), timeout=60
    )
    assert done.returncode == status
    assert out.read_text().startswith("iscsi://127.0.0.1:")


@pytest.mark.parametrize("secret", ["twelve bytes", "p@ss?w%rd/with#all&of=them", "long" * 50])
def test_the_command_gets_the_secret_by_its_environment(tmp_path: Path, secret: str) -> None:
    """As libiscsi reads it. A URL would be cut at `@` and `?` and after 255 bytes, and `ps` would show it."""
    out = tmp_path / "told"
    told = "$uri $LIBISCSI_CHAP_USERNAME $LIBISCSI_CHAP_PASSWORD"
    done = subprocess.run(
        program("ram", "--size", "1M", "--user", "bob@home", "--run", f'echo "{told}" > {out}'),
        env={**os.environ, "CHAP_SECRET": secret}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    url, _, rest = out.read_text().partition(" ")
    assert re.fullmatch(r"iscsi://127\.0\.0\.1:\d+/[^@%?]+/0", url)
    assert rest == f"bob@home {secret}\n"


def test_how_to_log_in_is_shown_without_the_secret() -> None:
    with subprocess.Popen(
        program("ram", "--size", "1M", "--user", "bob smith"),
        stdout=subprocess.PIPE, text=True, env={**os.environ, "CHAP_SECRET": "twelve bytes"},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        shown = "".join(iter(running.stdout.readline, "Ctrl-C ends it.\n"))
        running.send_signal(signal.SIGTERM)
    assert """export LIBISCSI_CHAP_USERNAME='bob smith' LIBISCSI_CHAP_PASSWORD="$CHAP_SECRET"\n""" in shown
    assert "twelve bytes" not in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_until_a_signal(number: signal.Signals) -> None:
    with subprocess.Popen(program("ram", "--size", "1M"), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        shown: list[str] = []
        while not shown or "ends it" not in shown[-1]:
            shown.append(running.stdout.readline())
        running.send_signal(number)
        assert running.wait(60) == 0
    text = "".join(shown)
    assert "ram/: 1 MiB in blocks of 512 bytes" in text
    assert "iscsiadm -m discovery -t sendtargets -p 127.0.0.1:" in text


def test_the_status_page_beside_it() -> None:
    with subprocess.Popen(
        program("ram", "--size", "1M", "--metrics", "0"), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        url = next(match[1] for line in running.stdout if (match := re.search(r"(http://\S+/) shows", line)))
        with urlopen(f"{url}status.json", timeout=60) as answer:
            assert [device["config"] for device in json.load(answer)["devices"]] == ["ram/"]
        with urlopen(f"{url}metrics", timeout=60) as answer:
            assert b'tcmu_device_state{device="lun0",state="serving"} 1.0' in answer.read()
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def test_a_storage_that_exists_has_its_size(tmp_path: Path) -> None:
    """A file of 8 MiB is not made one of 1 GiB because nobody has said a size."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(8 << 20))
    options = parser().parse_args(["try", "file", str(path), "--run", "true"])
    assert try_.run(options) == 0
    assert path.stat().st_size == 8 << 20
    registry, config = try_.find_handler("file", str(path))
    assert try_._present_size(registry, config, 4096) == 8 << 20
    assert try_._present_size(*try_.find_handler("ram", ""), 512) == 0
