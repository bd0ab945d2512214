"""The registry: handlers from entry points, directories and files; what is broken costs only itself."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from tcmu_runner.errors import ConfigError, UnknownHandlerError
from tcmu_runner.handler import AsyncHandler, Device, Handler, RawHandler, registry
from tcmu_runner.handler.filter import Layer
from tcmu_runner.handler.registry import Registry, check_class
from tcmu_runner.handlers.file import FileHandler
from tcmu_runner.handlers.null import NullHandler
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.iov import Buffers

GOOD = '''
from tcmu_runner import Handler

class {name}(Handler[str]):
    """{subtype}/ for a test"""
    subtype = "{subtype}"

    @classmethod
    def open(cls, device, config):
        return cls()

    def read(self, into, offset):
        pass
'''


def write(path: Path, text: str = GOOD, **names: str) -> Path:
    path.write_text(
        text.format(**{"name": "Good", "subtype": "good"} | names) if names or text == GOOD else text
    )
    return path


def subtypes(handlers: Registry) -> list[str]:
    return [cls.subtype for cls in handlers]


class Readable(Handler[str]):
    subtype: ClassVar[str] = "readable"

    @classmethod
    def open(cls, device: Device, config: str) -> Readable:
        return cls()

    def read(self, into: Buffers, offset: int) -> None:
        pass


# -- finding -------------------------------------------------------------------------------------------


def test_a_config_string_finds_its_handler() -> None:
    handlers = Registry()
    handlers.add(RamHandler, FileHandler)
    cls, parts = handlers.find("file//srv/a;tcmur_cmd_time_out=5")
    assert cls is FileHandler
    assert (parts.rest, parts.time_out) == ("/srv/a", 5)
    assert len(handlers) == 2
    assert subtypes(handlers) == ["file", "ram"]


@pytest.mark.parametrize("text", ["r/pool/image", "ra/x", "ramx/", "RAM/", "file2//a", ".ram/"])
def test_prior_art_2_1_11_a_subtype_matches_as_a_whole(text: str) -> None:
    """The C daemon compared with strncmp over the shorter name: `r/...` was served by rbd."""
    handlers = Registry()
    handlers.add(RamHandler, FileHandler)
    with pytest.raises(UnknownHandlerError, match=r"no handler '.*'; available: file, ram; correct"):
        handlers.find(text)


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UnknownHandlerError, match="available: none"):
        Registry().find("file//a")


def test_check_raises_what_opening_would() -> None:
    handlers = Registry()
    handlers.add(FileHandler, NullHandler)
    handlers.check("file//srv/a;direct")
    for text in ("file/relative", "null/x", "file//a,b", "nosuch/x", "file"):
        with pytest.raises((ConfigError, UnknownHandlerError)):
            handlers.check(text)


# -- adding --------------------------------------------------------------------------------------------


def test_the_same_class_may_come_twice() -> None:
    handlers = Registry()
    handlers.add(Readable)
    handlers.add(Readable)
    assert len(handlers) == 1


def test_two_handlers_of_one_subtype_are_named_with_their_files() -> None:
    class Other(Readable):
        subtype = "readable"

    handlers = Registry()
    handlers.add(Readable)
    with pytest.raises(
        ConfigError, match=r"handler 'readable' exists twice: .*test_registry.py and .*remove one"
    ):
        handlers.add(Other)
    assert list(handlers) == [Readable]


@pytest.mark.parametrize("subtype", ["", "a-b", "a/b", "a b", "ä", "a\n", None, 5])
def test_a_subtype_is_an_element_of_a_dbus_path(subtype: object) -> None:
    bad = type("Bad", (Readable,), {"subtype": subtype})
    with pytest.raises(ConfigError, match=r"Bad: subtype .* must be letters, digits or '_'"):
        check_class(bad)


@pytest.mark.parametrize("thing", [None, 5, len, "ram", object, ConfigError])
def test_what_is_no_handler_is_refused(thing: object) -> None:
    with pytest.raises(ConfigError, match="is not a subclass of"):
        check_class(thing)


def test_open_and_read_are_required() -> None:
    class NoOpen(Handler[str]):
        subtype = "no_open"

        def read(self, into: Buffers, offset: int) -> None:
            pass

    class NoRead(AsyncHandler[str]):
        subtype = "no_read"

        @classmethod
        async def open(cls, device: Device, config: str) -> NoRead:
            return cls()

    with pytest.raises(ConfigError, match=r"NoOpen defines no open\(\): every handler needs it"):
        check_class(NoOpen)
    with pytest.raises(ConfigError, match=r"NoRead defines no read\(\)"):
        check_class(NoRead)


def test_a_raw_handler_needs_no_read() -> None:
    class Raw(RawHandler[str]):
        subtype = "raw"

        @classmethod
        def open(cls, device: Device, config: str) -> Raw:
            return cls()

    check_class(Raw)


def test_async_methods_belong_to_an_async_handler() -> None:
    """Called as a plain function it would return a coroutine that nobody runs: the write is lost."""

    async def write(self: Handler[str], data: Buffers, offset: int) -> None:
        pass

    mixed = type("Mixed", (Readable,), {"subtype": "mixed", "write": write})
    with pytest.raises(ConfigError, match=r"Mixed.write is async: subclass tcmu_runner.AsyncHandler"):
        check_class(mixed)


# -- files ---------------------------------------------------------------------------------------------


def test_a_file(tmp_path: Path) -> None:
    handlers = Registry()
    (found,) = handlers.load_file(write(tmp_path / "good.py"))
    assert found.subtype == "good"
    assert list(handlers) == [found]
    assert list(tmp_path.iterdir()) == [tmp_path / "good.py"]  # no __pycache__ beside it


def test_a_file_under_any_name(tmp_path: Path) -> None:
    assert Registry().load_file(write(tmp_path / "handler"))[0].subtype == "good"


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    """Within one second, and of the same length: bytecode kept by time and size would be stale."""
    path = write(tmp_path / "good.py")
    Registry().load_file(path)
    write(path, GOOD, name="Good", subtype="goof")
    assert Registry().load_file(path)[0].subtype == "goof"


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    """Else the type hints of the first one's options would be looked up in the second."""
    handlers = Registry()
    for subtype in ("one", "two"):
        (tmp_path / subtype).mkdir()
        (cls,) = handlers.load_file(write(tmp_path / subtype / "handler.py", GOOD, subtype=subtype))
        assert sys.modules[cls.__module__].__file__ == str(tmp_path / subtype / "handler.py")
    one, two = handlers
    assert one.__module__ != two.__module__


def test_only_what_the_file_itself_defines_and_names(tmp_path: Path) -> None:
    text = (
        "from tcmu_runner.handlers.ram import RamHandler\n"
        "class Base(RamHandler): pass\n"
        "class Mine(Base): subtype = 'mine'\n"
        "Alias = Mine\n"
    )
    assert [cls.__name__ for cls in Registry().load_file(write(tmp_path / "mine.py", text))] == ["Mine"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no handler: subclass tcmu_runner.Handler and give it a subtype"),
        ("def f(:\n", r"cannot be loaded: SyntaxError: .*line 1"),
        (
            "\nimport no_such_module\n",
            r"cannot be loaded: ModuleNotFoundError: .*no_such_module.* \(line 2\)",
        ),
        ("raise SystemExit(3)\n", r"cannot be loaded: SystemExit: 3 \(line 1\); correct or remove it"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=message) as error:
        Registry().load_file(write(tmp_path / "broken.py", text))
    assert str(tmp_path / "broken.py") in str(error.value)
    assert {name for name in set(sys.modules) - before if "loaded" in str(error.value)} == set()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch.py cannot be loaded: FileNotFoundError"):
        Registry().load_file(tmp_path / "nosuch.py")


def test_a_file_is_registered_whole_or_not_at_all(tmp_path: Path) -> None:
    handlers = Registry()
    handlers.add(Readable)
    text = GOOD.format(name="Fresh", subtype="fresh") + GOOD.format(name="Again", subtype="readable")
    with pytest.raises(ConfigError, match="exists twice"):
        handlers.load_file(write(tmp_path / "two.py", text))
    assert subtypes(handlers) == ["readable"]


# -- directories ---------------------------------------------------------------------------------------


def test_in_a_directory_a_broken_file_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a_broken.py", "raise SystemExit\n")
    write(tmp_path / "b_good.py")
    write(tmp_path / "c_again.py")
    write(tmp_path / "d_other.py", GOOD, subtype="other")
    write(tmp_path / "_helper.py", "raise AssertionError('not a handler file')\n")
    write(tmp_path / "notes.txt", "not Python\n")
    handlers = Registry()
    handlers.load_directory(tmp_path)
    assert subtypes(handlers) == ["good", "other"]
    first, second = [record.getMessage() for record in caplog.records]
    assert "a_broken.py cannot be loaded: SystemExit" in first
    assert "b_good.py" in second and "c_again.py" in second
    assert handlers.problems == [first, second]
    with pytest.raises(UnknownHandlerError, match=r"no handler 'a_broken'; .*a_broken.py cannot be loaded"):
        handlers.find("a_broken/x")
    caplog.clear()


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Imitates root: files belong to root, but for those that it is asked to give away."""
    owners: dict[Path, int] = {}
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = list(real(path, **options))
        found[4] = owners.get(path, 0)  # st_uid
        return os.stat_result(found)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "stat", stat)
    return owners.__setitem__


@pytest.mark.parametrize(
    ("name", "owner", "mode", "why", "remedy"),
    [
        ("good.py", 1000, 0o644, "belongs to user 1000, with mode 0644", "chown root {0}"),
        ("good.py", 0, 0o664, "belongs to user 0, with mode 0664", "chmod go-w {0}"),
        ("good.py", 0, 0o602, "belongs to user 0, with mode 0602", "chmod go-w {0}"),
        ("good.py", 1000, 0o666, "belongs to user 1000, with mode 0666", "chown root {0} && chmod go-w {0}"),
        ("", 1000, 0o755, "belongs to user 1000, with mode 0755", "chown root {0}"),
        ("", 0, 0o777, "belongs to user 0, with mode 0777", "chmod go-w {0}"),
        ("", 0, 0o1777, "belongs to user 0, with mode 1777", "chmod go-w {0}"),
    ],
)
def test_root_runs_nothing_that_others_can_change(
    tmp_path: Path,
    as_root: Callable[[Path, int], None],
    caplog: pytest.LogCaptureFixture,
    name: str,
    owner: int,
    mode: int,
    why: str,
    remedy: str,
) -> None:
    directory = tmp_path / "handlers"
    directory.mkdir()
    write(directory / "good.py")
    path = directory / name
    path.chmod(mode)
    as_root(path, owner)
    handlers = Registry()
    handlers.load_directory(directory)
    (problem,) = handlers.problems
    assert subtypes(handlers) == []
    assert problem.startswith(f"no handler of {path} is loaded: it {why}")
    assert problem.endswith(remedy.format(path))
    caplog.clear()


def test_root_runs_what_is_roots_alone(tmp_path: Path, as_root: Callable[[Path, int], None]) -> None:
    write(tmp_path / "good.py")
    as_root(tmp_path / "good.py", 0)
    handlers = Registry()
    handlers.load_directory(tmp_path)
    assert subtypes(handlers) == ["good"]


def test_another_user_runs_what_is_that_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Debian's umask of private groups, 002."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    write(tmp_path / "good.py")
    (tmp_path / "good.py").chmod(0o664)
    handlers = Registry()
    handlers.load_directory(tmp_path)
    assert subtypes(handlers) == ["good"]


def test_a_link_to_nowhere_costs_only_itself(
    tmp_path: Path, as_root: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    as_root(tmp_path, 0)
    write(tmp_path / "good.py")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nosuch")
    handlers = Registry()
    handlers.load_directory(tmp_path)
    assert subtypes(handlers) == ["good"]
    assert "gone.py cannot be loaded: No such file or directory; correct or remove it" in caplog.text
    caplog.clear()


def test_a_missing_directory_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Registry().load_directory(tmp_path / "nosuch")
    assert f"no handlers of directory {tmp_path / 'nosuch'}: No such file" in caplog.text
    caplog.clear()


# -- entry points --------------------------------------------------------------------------------------


def test_a_broken_entry_point_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "ep_exits.py", "import sys; sys.exit('bye')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    values = {
        "ram": "tcmu_runner.handlers.ram:RamHandler",
        "again": "tcmu_runner.handlers.ram:RamHandler",
        "gone": "no_such_package:Handler",
        "attribute": "tcmu_runner.handlers.ram:NoSuchClass",
        "function": "tcmu_runner.units:parse_size",
        "exits": "ep_exits:Handler",
        "null": "tcmu_runner.handlers.null:NullHandler",
    }
    points = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, value, registry.GROUP) for name, value in values.items()
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    handlers = Registry()
    handlers.load_entry_points()
    assert subtypes(handlers) == ["null", "ram"]
    messages = [record.getMessage() for record in caplog.records]
    caplog.clear()
    assert [message.split()[1] for message in messages] == ["gone", "attribute", "function", "exits"]
    assert "ModuleNotFoundError: No module named 'no_such_package'; install what it needs" in messages[0]
    assert "AttributeError" in messages[1]
    assert "is not a subclass of tcmu_runner.Handler" in messages[2]
    assert "SystemExit: bye" in messages[3]


def test_a_stack_is_found_as_a_handler_is() -> None:
    registry = Registry()
    registry.add(FileHandler)
    registry.put(
        registry.definition("golden", "file", (Layer.parse("readonly", {}),), "images nobody changes")
    )
    provider, parts = registry.find("golden//srv/disk.img")
    assert (provider.subtype, provider.privileges, parts.rest) == (
        "golden",
        FileHandler.privileges,
        "/srv/disk.img",
    )
    assert "images nobody changes: readonly over file." in provider.describe()
    assert [each.subtype for each in registry] == ["file", "golden"]
    with pytest.raises(ConfigError, match="is not absolute"):
        registry.check("golden/disk.img")


@pytest.mark.parametrize(
    ("name", "below", "remedy"),
    [
        ("file", "file", "there is a handler of this name"),
        ("a-b", "file", "letters, digits and '_'"),
        ("a", "fil", "no handler 'fil'; there are: file"),
        ("a", "golden", "no handler 'golden'; there are: file"),
    ],
)
def test_a_stack_that_cannot_be_is_refused(name: str, below: str, remedy: str) -> None:
    registry = Registry()
    registry.add(FileHandler)
    registry.put(registry.definition("golden", "file", ()))
    with pytest.raises(ConfigError, match=remedy):
        registry.definition(name, below, ())


def test_stacks_come_and_go_with_the_settings_and_handlers_stay() -> None:
    registry = Registry()
    registry.add(FileHandler)
    registry.put(registry.definition("old", "file", ()))
    registry.set_stacks([registry.definition("new", "file", ())])
    assert sorted(each.subtype for each in registry) == ["file", "new"]


def test_a_handler_cannot_have_the_name_of_a_stack() -> None:
    registry = Registry()
    registry.add(FileHandler)
    registry.put(registry.definition("readable", "file", ()))
    with pytest.raises(ConfigError, match="handler 'readable' exists twice: a stack of the settings and"):
        registry.add(Readable)
