"""The commands of `python -m vm`."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm import console, host, image, install, job, serve
from vm.machine import Machine

TIMEOUT = 1800.0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m vm",
        description="A virtual machine with a real kernel and LIO, our daemon installed in it.",
        epilog="TCMU_VM_ACCEL chooses QEMU's accelerator (default: tcg,thread=multi).",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    build = add("image", "build the root image if it is absent, and print its directory")
    build.add_argument("--prune", action="store_true", help="remove images of other package lists")
    run = add("run", "boot a fresh machine, install our wheel, run a command there, end with its exit status")
    shell = add("shell", "a root shell on a console: of the machine of `serve`, else of a fresh one")
    add("serve", "leave a machine running for `exec`, with our source live in it")
    execute = add("exec", "run a command, with the current source, in the machine of `serve`")
    add("stop", "end the machine of `serve`")
    add("demo", "boot a machine and show a LUN of ours in it")
    for boots in (run, shell):
        boots.add_argument("--disk", type=Path, help="keep the disk's changes in this file for the next boot")
    for runs in (run, execute):
        runs.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds (default: %(default)s)")
        runs.add_argument("argv", nargs="+", metavar="CMD", help="the command, after --")
    return top


@contextmanager
def fresh(name: str, disk: Path | None = None, *, live: bool = False) -> Iterator[Machine]:
    """A machine of its own, booted and with our daemon installed, for the time of the block."""
    with Machine.boot(image.ensure(), host.new_out(name), disk=disk) as machine:
        machine.wait_for_boot()
        install.install(machine, live=live)
        yield machine
        if disk is not None:
            machine.power_off()


def image_command(arguments: argparse.Namespace) -> int:
    built = image.ensure()
    if arguments.prune:
        image.remove_others(built)
    print(built.directory)
    return 0


def run_command(arguments: argparse.Namespace) -> int:
    with fresh("run", arguments.disk) as machine:
        return job.run(machine, arguments.argv, arguments.timeout)


def shell_command(arguments: argparse.Namespace) -> int:
    if (machine := serve.running()) and arguments.disk is None:
        attach(machine, "the machine goes on running")
        return 0
    with fresh("shell", arguments.disk, live=True) as machine:
        attach(machine, "the machine ends")
    return 0


def attach(machine: Machine, then: str) -> None:
    host.say(f"Ctrl-] leaves this console, and {then}")
    console.attach(machine.sockets / "console")


def serve_command(_: argparse.Namespace) -> int:
    with serve.held("starting the machine"):
        machine = serve.start()
        serve.refresh(machine)
    host.say(f"running as process {machine.pid}, logs in {machine.out}; end it: python -m vm stop")
    return 0


def exec_command(arguments: argparse.Namespace) -> int:
    with serve.held(" ".join(arguments.argv)):
        machine = serve.start()
        serve.refresh(machine)
        return job.run(machine, arguments.argv, arguments.timeout)


def stop_command(_: argparse.Namespace) -> int:
    host.say("the machine has ended" if serve.stop() else "no machine is running")
    return 0


def demo_command(_: argparse.Namespace) -> int:
    with fresh("demo") as machine:
        status = job.run(machine, ["sh", "vm/demo.sh"], TIMEOUT)
        if status == 0 and sys.stdin.isatty():
            host.say("the disk is in a virtual machine; here is its shell (press Enter for the prompt)")
            attach(machine, "the machine ends")
        elif status == 0:
            host.say("the disk went with its machine; on a terminal this command leaves you in a shell there")
        return status


COMMANDS = {
    "image": image_command,
    "run": run_command,
    "shell": shell_command,
    "serve": serve_command,
    "exec": exec_command,
    "stop": stop_command,
    "demo": demo_command,
}


def main() -> int:
    arguments = parser().parse_args()
    try:
        return COMMANDS[arguments.command](arguments)
    except host.VmError as error:
        host.say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
