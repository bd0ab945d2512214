"""The demonstration on a real kernel, for any user: no KVM, no root, no program but python3, apt and dpkg."""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from vm import console, host, kernels, kinds, pocket, uml

INIT = Path(__file__).parent / "guest" / "demo-init.sh"
MEMORY_MIB = 512


def run() -> int:
    """Boots the small root, shows a LUN of ours in it, and leaves a person at a terminal in a shell there."""
    root = pocket.ensure()
    kernel = kernels.ensure(kinds.NEWEST)
    shutil.copy(INIT, root / "usr/sbin/demo-init")
    out = host.new_out("demo")
    metadata(out / "site")
    sockets = Path(tempfile.mkdtemp(prefix="tcmu-vm-"))
    directories = {"MODULES": kernel.modules, "CHECKOUT": host.CHECKOUT, "OUT": out}
    directories["PYCACHE"] = pocket.bytecode()
    words = [
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={root}",
        "ro",
        "init=/usr/sbin/demo-init",
        "loglevel=1",
    ]
    words += [f"VM_{name}={path.resolve()}" for name, path in directories.items()]
    words += ["VM_SHELL=yes"] if sys.stdin.isatty() else []
    command = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        *uml.kernel_process(kernel, sockets, out, MEMORY_MIB),
        *words,
    ]
    try:
        with (out / "machine.log").open("wb") as log:
            machine = subprocess.Popen(
                command, cwd=host.CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with machine:
            host.wait_for_sockets(sockets, machine, out)
            (console.attach if sys.stdin.isatty() else console.follow)(sockets / "console")
            machine.terminate()
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    return status(out)


def status(out: Path) -> int:
    """How the demonstration ended; a machine that did not come so far is explained."""
    try:
        return int((out / "status").read_text())
    except FileNotFoundError:
        host.say(f"the machine ended before its time; its logs are in {out}")
        return 1


def metadata(site: Path) -> None:
    """What an installation tells Python of our package: its handlers are found by their entry points."""
    project = tomllib.loads((host.CHECKOUT / "pyproject.toml").read_text())["project"]
    directory = site / f"tcmu_runner-{project['version']}.dist-info"
    directory.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (directory / "METADATA").write_text(head)
    with (directory / "entry_points.txt").open("w") as text:
        for group, entries in project["entry-points"].items():
            print(
                f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), sep="\n", file=text
            )
