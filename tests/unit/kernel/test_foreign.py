import pytest

from tcmu_runner.handler.registry import Registry
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.kernel.foreign import ALL, Foreign
from tcmu_runner.kernel.genl import Event, EventKind


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(RamHandler)
    return registry


def event(device: str) -> Event:
    return Event(EventKind.ADDED, device, 0, 1, 2)


def test_without_a_word_everything_is_ours(registry: Registry) -> None:
    foreign = Foreign(registry)
    assert "ram/" not in foreign
    assert "overlaybd/x" not in foreign  # so that it is refused


def test_subtypes_of_another_daemon(registry: Registry) -> None:
    foreign = Foreign(registry, ["overlaybd"])
    assert "overlaybd/x" in foreign
    assert "overlay/x" not in foreign
    assert foreign.concerns(event("tcm-user/0/vol0/overlaybd/x"))
    assert not foreign.concerns(event("tcm-user/0/vol0/ram/"))
    assert not foreign.concerns(event("rubbish"))


def test_all_that_are_not_ours(registry: Registry) -> None:
    foreign = Foreign(registry, [ALL])
    assert "overlaybd/x" in foreign
    assert "ram/" not in foreign


def test_processes_that_have_registered(registry: Registry) -> None:
    foreign = Foreign(registry)
    foreign.registered = registered = {"syn"}
    assert "syn/x" in foreign
    registered.clear()
    assert "syn/x" not in foreign
