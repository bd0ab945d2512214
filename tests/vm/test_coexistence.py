"""Two daemons on one kernel: each serves its own subtypes, and is silent about those of the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import disk as raw
from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import GENEROUS, attempt, background, command, eventually
from support.loopback import Loopback

C_DAEMON = "/usr/bin/tcmu-runner"
BUS_NAME = "com.example.SecondTcmu"
POLICY = Path("/etc/dbus-1/system.d/second-tcmu.conf")
SECOND = f"""
[coexistence]
others = ["file", "qcow"]
lock = "/run/second-tcmu.lock"
bus_name = "{BUS_NAME}"
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon_arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    settings = tmp_path_factory.mktemp("first") / "settings.toml"
    settings.write_text('[coexistence]\nothers = ["ram"]\n')
    return ("--settings", str(settings))


@pytest.fixture(scope="module", autouse=True)
def policy() -> Iterator[None]:
    """A name on the bus is somebody's to give."""
    rule = f'<policy user="root"><allow own="{BUS_NAME}"/><allow send_destination="{BUS_NAME}"/></policy>'
    POLICY.write_text(f"<busconfig>{rule}</busconfig>")
    command("systemctl", "reload", "dbus")
    yield
    POLICY.unlink()
    command("systemctl", "reload", "dbus")


@pytest.fixture
def second(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """Beside `daemon`; its log has been quiet in the end."""
    (settings := tmp_path / "second.toml").write_text(SECOND)
    made = Daemon(tmp_path / "second.out", "--settings", str(settings), "-l", str(tmp_path))
    made.start()
    try:
        yield made
        made.stop()
        assert not [line for line in made.text().splitlines() if "[WARNING]" in line or "[ERROR]" in line]
    finally:
        made.end_by_force()


def works(backstore: Backstore, number: int) -> None:
    """As a disk."""
    loopback = Loopback(number).create()
    disk = loopback.add(backstore)
    raw.write(disk, 8 * MIB, b"\xa5" * 4096)
    assert raw.read(disk, 8 * MIB, 4096) == b"\xa5" * 4096
    loopback.delete()


def on_the_bus(name: str) -> str:
    """Its objects."""
    return command("busctl", "tree", "--list", name)


def test_each_serves_its_own_and_leaves_the_other_alone(
    daemon: Daemon, second: Daemon, tmp_path: Path
) -> None:
    (of_first := Backstore.create("one", f"file/{tmp_path}/a.img", 16 * MIB)).enable()
    (ram := Backstore.create("two", "ram/", 16 * MIB)).enable()
    daemon.wait_for_log("user_0/one .*: added")
    second.wait_for_log("user_0/two .*: added")
    assert "user_0/two" not in daemon.text()
    assert "user_0/one" not in second.text()
    works(of_first, 1)
    works(ram, 2)
    assert "user_0/one" in on_the_bus("org.kernel.TCMUService1")
    assert "user_0/two" in on_the_bus(BUS_NAME)
    assert "user_0/two" not in on_the_bus("org.kernel.TCMUService1")

    second.stop()  # the first one goes on as if nothing had been
    works(of_first, 1)
    (more := Backstore.create("three", f"file/{tmp_path}/b.img", 16 * MIB)).enable()
    daemon.wait_for_log("user_0/three .*: added")
    works(more, 3)
    second.start()
    second.wait_for_log("user_0/two .*: taken over")
    works(ram, 2)
    more.remove()
    ram.remove()
    of_first.remove()
    assert "user_0/two" not in daemon.text()


@contextmanager
def the_c_daemon(directory: Path) -> Iterator[None]:
    with background(C_DAEMON, "--tcmu-log-dir", directory) as running:
        try:
            tree = ("busctl", "tree", "--list", "org.kernel.TCMUService1")
            eventually("its handlers", lambda: "/qcow" in attempt(*tree).output)
            yield
        finally:
            running.terminate()
            running.wait(GENEROUS)


def test_ours_beside_the_c_daemon(daemon: Daemon, second: Daemon, tmp_path: Path) -> None:
    """The C daemon refuses what it does not know, and the kernel takes the first answer. So nobody is waited
    for: nl_reply_supported=-1."""
    daemon.stop()
    with (tmp_path / "c.img").open("wb") as image:
        image.truncate(16 * MIB)
    with the_c_daemon(tmp_path):
        (of_c := Backstore.create("one", f"qcow/{tmp_path}/c.img", 16 * MIB)).enable()
        works(of_c, 1)
        ram = Backstore.create("two", "ram/", 16 * MIB)
        ram.store("attrib/nl_reply_supported", -1)
        ram.enable()
        second.wait_for_log("user_0/two .*: added")
        works(ram, 2)
        assert "user_0/one" not in second.text()
        ram.remove()
        of_c.remove()
