"""Several machines on one network, each with a kernel of its own: initiators and gateways on different hosts.

The network is a bridge with a tap for each machine, in a network namespace that belongs to the rack. It leads
nowhere else. As root the namespace needs nothing more; any other user needs the host to allow user
namespaces.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vm import host, install
from vm.kinds import DEFAULT
from vm.machine import Machine
from vm.uml import Network, entered

SUBNET = "10.77.0"

CONFIGURE = """
set -e
hostname {name}
ip link set lo up
ip address replace {address}/24 dev vec0
ip link set vec0 up
sed -i '/ # rack$/d' /etc/hosts
echo '{hosts}' >>/etc/hosts
echo InitiatorName=iqn.2026-11.com.example:{name} >/etc/iscsi/initiatorname.iscsi
"""


@dataclass(frozen=True)
class Place:
    """Of one machine: the file with its disk, and the tap that it is plugged into."""

    disk: Path
    network: Network


@dataclass
class Rack:
    """Running machines by name. Their names are in each other's /etc/hosts. booted: all that ever ran."""

    kind: str
    stack: ExitStack
    places: dict[str, Place]
    addresses: dict[str, str]
    machines: dict[str, Machine] = field(default_factory=dict)
    booted: list[tuple[str, Machine]] = field(default_factory=list)

    def run(self, name: str, script: str, *, timeout: float = host.GENEROUS) -> str:
        """A shell script on machine `name`; returns what it printed. Raises RackError when it fails."""
        said: list[str] = []

        def keep(stream: str, data: bytes) -> None:
            said.append(data.decode(errors="replace"))

        argv = ["sh", "-e", "-c", script]
        outcome = self.machines[name].run(argv, timeout=timeout, output=keep, cwd=install.SOURCE)
        if outcome.status != 0:
            raise RackError(
                f"{name}: {script.strip()}\n{''.join(said)}status {outcome.status} {outcome.note}"
            )
        return "".join(said)

    def configure(self, name: str) -> None:
        """Gives a machine that has booted its name and its addresses."""
        hosts = "\n".join(f"{address} {other} # rack" for other, address in self.addresses.items())
        self.run(name, CONFIGURE.format(name=name, address=self.addresses[name], hosts=hosts))

    def boot(self, name: str) -> None:
        """Starts a machine, which ends with the rack, and returns at once. Its disk outlasts its reboots."""
        place = self.places[name]
        made = Machine.boot(self.kind, host.new_out(name), disk=place.disk, network=place.network)
        self.machines[name] = self.stack.enter_context(made)
        self.booted.append((name, made))

    def reboot(self, name: str) -> None:
        """Restarts a machine in order, as its administrator would, and waits for it.

        It ends and is started anew: a user-mode Linux that restarts itself still holds its tap, and finds it
        busy.
        """
        machine = self.machines[name]
        machine.power_off()
        if machine.alive():
            raise RackError(f"{name} does not shut down; see {machine.out}")
        self.boot(name)
        self.machines[name].wait_for_boot()
        self.configure(name)

    def complaints(self) -> list[str]:
        """What the machines' kernels complained of."""
        return [f"{name}: {line}" for name, machine in self.booted for line in machine.complaints()]


class RackError(AssertionError):
    """A command in a machine failed."""


@contextmanager
def rack(names: Sequence[str], kind: str = DEFAULT) -> Iterator[Rack]:
    """Boots the machines side by side, with our daemon installed in each."""
    addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, 1)}
    with ExitStack() as stack:
        holder = stack.enter_context(namespace())
        disks = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tcmu-rack-")))
        places = {
            name: Place(disks / name, Network(holder, f"tap{number}")) for number, name in enumerate(names)
        }
        made = Rack(kind, stack, places, addresses)
        for name, place in places.items():
            add_tap(place.network)
            made.boot(name)
        for name, machine in made.machines.items():
            machine.wait_for_boot()
            install.install(machine)
            made.configure(name)
        yield made


@contextmanager
def namespace() -> Iterator[int]:
    """A network namespace with a bridge; yields the process that holds it."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        *user,
        "sh",
        "-c",
        "echo; exec sleep infinity",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as holder:
        try:
            assert holder.stdout
            if not holder.stdout.readline():
                raise host.VmError(
                    "this host allows no network namespaces, which a rack needs; be root, or allow them"
                )
            inside(Network(holder.pid, ""), "ip link add br0 type bridge && ip link set br0 up")
            yield holder.pid
        finally:
            holder.kill()


def add_tap(network: Network) -> None:
    tap = network.tap
    inside(network, f"ip tuntap add {tap} mode tap && ip link set {tap} master br0 up")


def inside(network: Network, script: str) -> None:
    ran = subprocess.run([*entered(network), "sh", "-c", script], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise host.VmError(f"the rack's network cannot be made: {ran.stderr.strip() or script}")
