import pytest

from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.kernel.genl import Event, EventKind
from tcmu_runner.supervisor.coexistence import ALL, OtherDaemons


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(RamHandler)
    return registry


def event(device: str) -> Event:
    return Event(EventKind.ADDED, device, 0, 1, 2)


def test_without_a_word_everything_is_ours(registry: Registry) -> None:
    other_daemons = OtherDaemons(registry)
    assert "ram/" not in other_daemons
    assert "overlaybd/x" not in other_daemons  # so that it is refused


def test_subtypes_of_another_daemon(registry: Registry) -> None:
    other_daemons = OtherDaemons(registry, ["overlaybd"])
    assert "overlaybd/x" in other_daemons
    assert "overlay/x" not in other_daemons
    assert other_daemons.concerns(event("tcm-user/0/vol0/overlaybd/x"))
    assert not other_daemons.concerns(event("tcm-user/0/vol0/ram/"))
    assert not other_daemons.concerns(event("rubbish"))


def test_all_that_are_not_ours(registry: Registry) -> None:
    other_daemons = OtherDaemons(registry, [ALL])
    assert "overlaybd/x" in other_daemons
    assert "ram/" not in other_daemons


def test_processes_that_have_registered(registry: Registry) -> None:
    other_daemons = OtherDaemons(registry)
    other_daemons.registered = registered = {"syn"}
    assert "syn/x" in other_daemons
    registered.clear()
    assert "syn/x" not in other_daemons
