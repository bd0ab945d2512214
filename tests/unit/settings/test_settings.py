"""The settings file: what is understood, and what a mistake is told."""

from pathlib import Path

import pytest

from tcmu_runner.engine.overrides import Overrides
from tcmu_runner.errors import ConfigError
from tcmu_runner.settings import Coexistence, Handlers, Metrics, Settings, Workers, load


def written(directory: Path, text: str) -> Path:
    path = directory / "tcmu-runner.toml"
    path.write_text(text)
    return path


def test_everything_can_be_left_out(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Settings(Workers(None, None, 0, 0, 0))


def test_every_setting_is_read(tmp_path: Path) -> None:
    text = '[workers]\nprocesses = 4\nuser = "nobody"\nmemory = "512M"\nopen_files = 4096\nnice = -5\n'
    assert load(written(tmp_path, text)).workers == Workers(4, "nobody", 512 << 20, 4096, -5)


def test_what_initiators_are_told_of_devices(tmp_path: Path) -> None:
    devices = load(written(tmp_path, '[devices."user_0/*"]\nvendor = "ACME"\nsoft_threshold = 80\n')).devices
    assert devices.of("user_0/vol0") == Overrides({"vendor": "ACME"}, {"soft_threshold": 80})
    assert devices.of("user_1/vol0") == Overrides()


def test_stacks_of_filters(tmp_path: Path) -> None:
    filters = '[{ filter = "readonly" }, { filter = "offset", offset = "1M" }]'
    text = f'[stacks.golden]\nhandler = "file"\nfilters = {filters}\n'
    (stack,) = load(written(tmp_path, text)).stacks
    assert (stack.name, stack.handler, [layer.filter.name for layer in stack.layers]) == (
        "golden", "file", ["readonly", "offset"],
    )  # fmt: skip
    assert stack.layers[1].size_below(4096) == 4096 + (1 << 20)


def test_directories_of_handlers(tmp_path: Path) -> None:
    text = '[handlers]\npaths = ["/usr/local/lib/tcmu-runner"]'
    assert load(written(tmp_path, text)).handlers == Handlers((Path("/usr/local/lib/tcmu-runner"),))


def test_metrics_are_off_and_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")).metrics == Metrics(0, "127.0.0.1", ())
    assert load(written(tmp_path, "[metrics]\nport = 9809")).metrics == Metrics(9809, "127.0.0.1", ())
    text = '[metrics]\nport = 80\nhost = "::"\nnames = ["san.example"]'
    assert load(written(tmp_path, text)).metrics == Metrics(80, "::", ("san.example",))


def test_coexistence_with_other_daemons(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")).coexistence == Coexistence()
    text = '[coexistence]\nothers = ["overlaybd", "*"]\nlock = "/run/a.lock"\nbus_name = "com.example.Tcmu"'
    own = Path("/run/tcmu-runner/com.example.Tcmu.sock")  # two daemons do not share one
    expected = Coexistence(("overlaybd", "*"), Path("/run/a.lock"), "com.example.Tcmu", own)
    assert load(written(tmp_path, text)).coexistence == expected
    text += '\ncontrol = "/run/mine.sock"'
    assert load(written(tmp_path, text)).coexistence.control == Path("/run/mine.sock")


def test_per_device_is_the_default_by_name(tmp_path: Path) -> None:
    assert load(written(tmp_path, '[workers]\nprocesses = "per-device"')).workers.processes is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[coexistence]\nothers = "overlaybd"', "coexistence.others = 'overlaybd': write a list"),
        ('[coexistence]\nlock = "tcmu.lock"', "write an absolute path"),
        ('[coexistence]\nbus_name = "tcmu"', "write a name like com.example.Tcmu"),
        ('[coexistence]\ncontrol = "a.sock"', 'coexistence.control = "a.sock": write an absolute path'),
        (f'[coexistence]\ncontrol = "/{"x" * 107}"', "of at most 107 bytes"),
        ('[coexistence]\nother = "x"', "unknown setting coexistence.other"),
        ('[handlers]\npaths = "/srv"', "handlers.paths = '/srv': write a list"),
        ('[handlers]\npaths = ["srv"]', 'handlers.paths has "srv": write an absolute path'),
        ('[handlers]\npath = "/srv"', "unknown setting handlers.path; there are: handlers.paths"),
        ("[workers]\nprocesses = -1", 'write "per-device", or a number from 0'),
        ("[workers]\nprocesses = true", 'write "per-device", or a number from 0'),
        ("[workers]\nprocess = 4", "unknown setting workers.process"),
        ("[worker]\nprocesses = 4", "unknown setting worker"),
        ('[devices]\n"user_0/a" = 4', r"write \[devices.vol0\]"),
        ('[devices."user_0/a"]\nvendor = 4', "devices.user_0/a.vendor"),
        ("[stacks]\na = 4", r"stacks.a is a table"),
        ("[stacks.a]\nfilters = []", "stacks.a: which handler"),
        ('[stacks.a]\nhandler = "file"\nfilters = "readonly"', "stacks.a.filters: write a list"),
        ('[stacks.a]\nhandler = "file"\nfilters = ["readonly"]', "stacks.a.filters: write each as"),
        (
            '[stacks.a]\nhandler = "file"\nfilters = [{ filter = "no" }]',
            "stacks.a: no filter 'no'; there are",
        ),
        (
            '[stacks.a]\nhandler = "file"\nfilters = [{ filter = "offset" }]',
            "stacks.a: filter offset: option 'offset' is missing",
        ),
        ("workers = 4", r"write \[workers\]"),
        ('[workers]\nmemory = "much"', "workers.memory.*for example 10G"),
        ("[workers]\nnice = -21", "workers.nice = -21: write a number from -20"),
        ("[workers]\nuser = 7", "write a name in quotes"),
        ('[metrics]\nhost = "::"', "metrics.port = None: write a number from 1"),
        ("[metrics]\nport = true", "metrics.port = True: write a number from 1"),
        ("[metrics]\nport = 65536", "metrics.port = 65536: write a number from 1 to 65535, for example 9809"),
        ('[metrics]\nport = 80\nnames = "san.example"', "metrics.names.*write a list"),
        ("[metrics]\nport = 80\nhost = 1", "metrics.host = 1: write a name in quotes"),
        ("[metrics]\nports = 80", "unknown setting metrics.ports; there are: .*metrics.port"),
        ("[workers\nprocesses = 4", "line 1"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=told) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_file_that_was_asked_for_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "absent.toml")
