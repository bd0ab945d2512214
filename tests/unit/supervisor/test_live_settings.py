"""What is in force of settings files, command line and environment, and what an edit changes at once."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dbus.shelf import a_device
from support.waiting import eventually

from tcmu_runner.engine.observe.view import DeviceView
from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import ConfigError
from tcmu_runner.logs import COMMANDS, Logs
from tcmu_runner.settings import Settings
from tcmu_runner.supervisor.device_manager import DeviceManager
from tcmu_runner.supervisor.live_settings import Configuration, Options

MINE = """
from tcmu_runner import Handler

class Mine(Handler):
    subtype = "mine"

    def open(self, config, device):
        self.data = bytearray(device.size)

    def read(self, into, offset):
        into[:] = self.data[offset:offset + len(into)]
"""
VAULT = '[stacks.vault]\nhandler = "file"\nfilters = [{ filter = "readonly" }]\n'


class FakeDeviceManager(DeviceManager):
    """One device that exists, and what it is told."""

    def __init__(self) -> None:
        """It has nothing of what the real one is made of."""
        self.told: list[tuple[str, Overrides]] = []

    def devices(self) -> list[DeviceView]:
        return [replace(a_device(), handler="vault", config="vault//srv/disk.img")]

    async def adjust(self, name: str, overrides: Overrides) -> None:
        self.told.append((name, overrides))


class Follower:
    """Another process that logs."""

    def __init__(self) -> None:
        self.levels: list[int] = []

    def log_to(self, level: int, descriptor: int) -> None:
        self.levels.append(level)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logs]:
    monkeypatch.delenv("TCMU_LOGDIR", raising=False)
    root = logging.getLogger()
    level = root.level
    yield (logs := Logs())
    logs._file.close()
    root.setLevel(level)


class Bench:
    """Files that are edited, and the configuration that follows them."""

    def __init__(self, directory: Path, logs: Logs, *, debug: bool = False) -> None:
        (directory / "log").mkdir()
        self.conf, self.toml = directory / "tcmu.conf", directory / "tcmu-runner.toml"
        self.toml.write_text(VAULT)
        self.log_file = directory / "log/tcmu-runner.log"
        options = Options(debug, directory / "log", settings=self.toml, tcmu_conf=self.conf)
        self.configuration = Configuration(options, logs, quiet_seconds=0)
        self.device_manager, self.follower = FakeDeviceManager(), Follower()

    def edit(self, file: Path, text: str) -> None:
        """The daemon's answer to an edit while it runs."""

        async def life() -> None:
            with self.configuration.follow(self.device_manager, self.follower):
                file.write_text(text)
                await eventually(lambda: self.configuration._seen[file] == text)
                await asyncio.sleep(0)

        asyncio.run(life())


@pytest.fixture
def bench(tmp_path: Path, logs: Logs) -> Bench:
    made = Bench(tmp_path, logs)
    made.configuration.load()
    return made


def test_a_missing_tcmu_conf_stops_nothing(bench: Bench) -> None:
    assert bench.log_file.exists()
    assert logging.getLogger().level == logging.INFO


def test_the_file_is_right_then_the_command_line_then_the_environment(
    tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, logs, debug=True)
    bench.configuration.load()
    assert (logs.level, bench.log_file.exists()) == (COMMANDS, True)

    (tmp_path / "elsewhere").mkdir()
    bench.conf.write_text(f'log_level = 2\nlog_dir = "{tmp_path}/elsewhere"\n')
    bench.configuration.load()
    assert (logs.level, (tmp_path / "elsewhere/tcmu-runner.log").exists()) == (logging.WARNING, True)

    bench.conf.unlink()
    (tmp_path / "env").mkdir()
    monkeypatch.setenv("TCMU_LOGDIR", str(tmp_path / "env"))
    Configuration(Options(tcmu_conf=bench.conf, settings=bench.toml), logs).load()
    assert (logs.level, (tmp_path / "env/tcmu-runner.log").exists()) == (logging.INFO, True)


def test_handlers_of_named_directories_are_offered_also_below_filters(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/mine.py").write_text(MINE)
    stack = '[stacks.safe]\nhandler = "mine"\nfilters = [{ filter = "readonly" }]\n'
    bench.toml.write_text(f'[handlers]\npaths = ["{tmp_path}/mine"]\n{stack}')
    bench.configuration.load()
    assert {"mine", "safe"} <= {provider.subtype for provider in bench.configuration.registry}


def test_another_directory_of_handlers_waits_for_a_restart(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.edit(bench.toml, VAULT + '[handlers]\npaths = ["/usr/local/lib/tcmu-runner"]\n')
    assert "handlers changed: takes effect when tcmu-runner is restarted" in caplog.text
    caplog.clear()


def test_a_level_is_changed_live_for_all_processes(bench: Bench) -> None:
    bench.edit(bench.conf, "log_level = 5\n")
    assert bench.follower.levels == [logging.INFO, COMMANDS]
    assert logging.getLogger().level == COMMANDS


def test_a_broken_tcmu_conf_is_refused_and_the_old_one_stays(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.edit(bench.conf, "log_level = 4\n")
    bench.edit(bench.conf, "log_level = loud\n")
    assert logging.getLogger().level == logging.DEBUG
    assert "tcmu.conf: line 1: log_level = loud: write a number" in caplog.text
    caplog.clear()


def test_a_setting_without_effect_and_a_log_that_cannot_be_are_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.edit(bench.conf, 'loglevel = 4\nlog_dir = "/no/such/directory"')
    assert "line 1: loglevel has no effect" in caplog.text
    assert "no log in /no/such/directory: No such file or directory: create it" in caplog.text
    caplog.clear()


def test_limits_of_devices_change_live(bench: Bench) -> None:
    bench.edit(bench.toml, VAULT + '[devices."user_0/*"]\nmax_unmap = 64\n')
    assert bench.device_manager.told == [("user_0/vol0", Overrides({}, {"max_unmap": 64}))]
    assert bench.configuration.terms("user_0/vol0", "vault//x").overrides.limits == {"max_unmap": 64}


def test_a_new_stack_is_there_at_once(bench: Bench) -> None:
    bench.edit(bench.toml, VAULT + '[stacks.slow]\nhandler = "ram"\nfilters = [{ filter = "stats" }]\n')
    assert bench.configuration.registry.find("slow/")[0].subtype == "slow"
    stack = bench.configuration.terms("user_0/vol1", "slow/").stack
    assert stack is not None
    assert stack.handler == "ram"


def test_what_cannot_change_live_says_when_it_will(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.edit(bench.toml, VAULT.replace('"readonly"', '"stats"') + "[workers]\nprocesses = 4\n")
    assert "user_0/vol0: its stack changed: applies after tcmu-runner restart" in caplog.text
    assert "workers changed: takes effect when tcmu-runner is restarted" in caplog.text
    assert bench.configuration.settings.workers.processes is None
    caplog.clear()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (VAULT + "[workers]\nprocesses = -1\n", "line 5: workers.processes = -1: write"),
        (VAULT + "\n[workers\n", "this is not TOML: .*line 5"),
        (VAULT.replace('"file"', '"no"'), "line 1: stack 'vault': no handler 'no'; there are: "),
        ("", "stacks.vault is used by user_0/vol0: remove that device first"),
        (VAULT + "[devices.x]\nvendor = 4\n", "line 5: devices.x.vendor = 4: write at most 8"),
    ],
)
def test_a_broken_edit_is_refused_as_a_whole(
    bench: Bench, caplog: pytest.LogCaptureFixture, text: str, told: str
) -> None:
    before = bench.configuration.settings
    bench.edit(bench.toml, text)
    assert bench.configuration.settings is before
    (message,) = [r.getMessage() for r in caplog.get_records("call") if r.levelno > logging.INFO]
    assert message.startswith(f"{bench.toml}: ")
    assert message.endswith(": the old settings stay")
    assert re.search(told, message), message
    caplog.clear()


def test_broken_settings_that_were_named_stop_the_start(tmp_path: Path, logs: Logs) -> None:
    bench = Bench(tmp_path, logs)
    bench.toml.write_text('[stacks.vault]\nhandler = "no"\n')
    with pytest.raises(ConfigError, match=r"tcmu-runner.toml: line 1: stack 'vault': no handler"):
        bench.configuration.load()


def test_a_file_that_goes_away_leaves_what_it_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.toml.unlink()
    bench.configuration._reload()
    assert "tcmu-runner.toml is gone: its settings stay" in caplog.text
    assert [stack.name for stack in bench.configuration.settings.stacks] == ["vault"]


@pytest.fixture
def starts(tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Configuration]:
    """Daemons started one after another, with this text in the default settings file."""
    (file := tmp_path / "tcmu-runner.toml").touch()
    monkeypatch.setattr("tcmu_runner.settings.tcmu_runner_toml.DEFAULT", file)

    def start(text: str) -> Configuration:
        file.write_text(text)
        conf, last = tmp_path / "tcmu.conf", tmp_path / "kept/last.toml"
        options = Options(log_dir=tmp_path, tcmu_conf=conf, kept=last)
        (made := Configuration(options, logs, quiet_seconds=0)).load()
        return made

    return start


@pytest.mark.parametrize(
    "broken", ["[workers\n", "[workers]\nprocesses = -1\n", '[stacks.x]\nhandler = "no"\n']
)
def test_a_start_with_broken_settings_goes_by_the_last_good_ones(
    starts: Callable[[str], Configuration], caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    assert starts(broken).settings == Settings()
    assert "until it is corrected the defaults apply" in caplog.text
    good = starts(VAULT).settings
    caplog.clear()
    after = starts(broken)
    assert after.settings == good
    assert after.registry.find("vault//x")[0].subtype == "vault"
    (told,) = [r.getMessage() for r in caplog.get_records("call") if r.levelno > logging.INFO]
    assert re.search(r"tcmu-runner.toml: .*line [12].*: until it is corrected the last good settings", told)
    caplog.clear()


def test_settings_that_cannot_be_kept_stop_nothing(
    starts: Callable[[str], Configuration], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_text("no directory")
    assert starts(VAULT).settings.stacks
    assert "cannot save the settings" in caplog.text
    caplog.clear()


def test_a_good_edit_is_kept_for_the_next_start(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tcmu_runner.settings.tcmu_runner_toml.DEFAULT", bench.toml)
    kept = tmp_path / "kept.toml"
    bench.configuration._options = replace(bench.configuration._options, settings=None, kept=kept)
    bench.edit(bench.toml, VAULT + "# better\n")
    bench.edit(bench.toml, VAULT + "[workers]\nprocesses = -1\n")
    assert kept.read_text() == VAULT + "# better\n"
    caplog.clear()


def test_a_log_directory_that_is_missing_is_not_logged_to(
    tmp_path: Path, logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    configuration = Configuration(Options(log_dir=tmp_path / "absent", tcmu_conf=tmp_path / "conf"), logs)
    configuration._set_log()
    what = f"no log in {tmp_path}/absent: No such file or directory: create it, or correct log_dir"
    assert caplog.messages == [f"{what}; logging to standard error only, level INFO and above"]
    assert configuration.problems() == [what]
    caplog.clear()
    (tmp_path / "absent").mkdir()
    configuration._set_log()
    assert caplog.messages == [f"logging to {tmp_path}/absent/tcmu-runner.log, level INFO and above"]
    assert configuration.problems() == []
