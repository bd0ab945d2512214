"""The machine that is left running for development: booted once, used by many commands one after another."""

from collections.abc import Iterator
from contextlib import contextmanager

from vm import host, install
from vm.machine import Machine

DIRECTORY = host.OUT / "serve"
STATE = DIRECTORY / "state.json"
INSTALLED = DIRECTORY / "installed"
"""Fingerprint of the packaging (entry points, names) that was installed in the guest last."""


@contextmanager
def held(doing: str) -> Iterator[None]:
    """Commands take turns: a device, a daemon's lock or a port of one would be in the way of another."""
    with host.locked(DIRECTORY / "lock", doing):
        yield


def running() -> Machine | None:
    return Machine.load(STATE)


def start(kind: str) -> Machine:
    """The running machine, booted if there is none."""
    if machine := running():
        if machine.kind != kind:
            raise host.VmError(f"{machine.kind} is running, not {kind}; end it: python -m vm stop")
        return machine
    INSTALLED.unlink(missing_ok=True)
    machine = Machine.boot(kind, host.new_out("serve"), survive=True)
    machine.save(STATE)
    machine.wait_for_boot()
    return machine


def refresh(machine: Machine) -> None:
    """The checkout's current source into the guest; a changed pyproject.toml costs an installation."""
    if machine.checkout != host.CHECKOUT:
        raise host.VmError(f"the running machine belongs to {machine.checkout}; end it: python -m vm stop")
    packaging = install.of_packaging()
    if INSTALLED.exists() and INSTALLED.read_text() == packaging:
        install.synchronise(machine)
        return
    install.install(machine, live=True)
    INSTALLED.write_text(packaging)


def stop() -> bool:
    """Ends the machine. False when there was none."""
    machine = running()
    if machine is None:
        return False
    machine.end()
    STATE.unlink()
    return True
