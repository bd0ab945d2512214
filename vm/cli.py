"""The commands of `python -m vm`."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vm import console, demonstration, host, image, install, job, serve, session
from vm.kinds import DEFAULT, KINDS, NAMES, resolve
from vm.machine import Machine

TIMEOUT = 3600.0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m vm",
        description="A machine with a real kernel and LIO, our daemon in it: user-mode Linux, or QEMU.",
        epilog="TCMU_VM names the machine where no option does. TCMU_VM_ACCEL chooses QEMU's accelerator "
        "(default: tcg,thread=multi).",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    build = add("image", "build the root image if it is absent, and print its directory")
    build.add_argument("--prune", action="store_true", help="remove images of other package lists")
    run = add("run", "boot a fresh machine, install our wheel, run a command there, end with its exit status")
    shell = add("shell", "a root shell on a console: of the machine of `serve`, else of a fresh one")
    start = add("serve", "leave a machine running for `exec`, with our source live in it")
    execute = add("exec", "run a command, with the current source, in the machine of `serve`")
    add("stop", "end the machine of `serve`")
    add("demo", "show a LUN of ours on a real kernel, as any user: seconds after the first time")
    for machine in (build, run, shell, start, execute):
        text = f"which machine: {', '.join(NAMES)}; linux-N is one that runs here (default: {DEFAULT})"
        machine.add_argument("--machine", choices=NAMES, default=DEFAULT, metavar="NAME", help=text)
    for boots in (run, shell):
        boots.add_argument("--disk", type=Path, help="keep the disk's changes in this file for the next boot")
    run.add_argument(
        "--parts",
        type=int,
        default=1,
        metavar="N",
        help="N machines side by side, each with the command; {part} in it becomes 1/N, 2/N, ...",
    )
    for runs in (run, execute):
        runs.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds (default: %(default)s)")
        runs.add_argument("argv", nargs="+", metavar="CMD", help="the command, after --")
    return top


@contextmanager
def fresh(name: str, kind: str, disk: Path | None = None, *, live: bool = False) -> Iterator[Machine]:
    """A machine of its own, booted and with our daemon installed, for the time of the block."""
    with Machine.boot(kind, host.new_out(name), disk=disk) as machine:
        machine.wait_for_boot()
        install.install(machine, live=live)
        yield machine
        if disk is not None:
            machine.power_off()


def image_command(arguments: argparse.Namespace) -> int:
    built = image.ensure(KINDS[arguments.machine].release)
    if arguments.prune:
        image.remove_others()
    print(built.directory)
    return 0


def run_command(arguments: argparse.Namespace) -> int:
    if arguments.parts == 1:
        return run_part(arguments, "1/1", session.to_terminal)
    if arguments.disk is not None:
        raise host.VmError("--disk belongs to one machine, --parts are several")
    parts = [f"{number}/{arguments.parts}" for number in range(1, arguments.parts + 1)]
    with ThreadPoolExecutor(len(parts)) as pool:
        statuses = list(pool.map(lambda part: run_part(arguments, part, prefixed(part)), parts))
    return next((status for status in statuses if status), 0)


def run_part(arguments: argparse.Namespace, part: str, output: session.Output) -> int:
    argv = [word.replace("{part}", part) for word in arguments.argv]
    with fresh(f"run-{part[0]}", arguments.machine, arguments.disk) as machine:
        return job.run(machine, argv, arguments.timeout, output)


def prefixed(part: str) -> session.Output:
    """Whole lines, with the number of their machine before them."""
    pending = {"out": b"", "err": b""}

    def output(stream: str, data: bytes) -> None:
        *lines, pending[stream] = (pending[stream] + data).split(b"\n")
        for line in lines:
            session.to_terminal(stream, f"{part} ".encode() + line + b"\n")

    return output


def shell_command(arguments: argparse.Namespace) -> int:
    if (machine := serve.running()) and arguments.disk is None:
        attach(machine, "the machine goes on running")
        return 0
    with fresh("shell", arguments.machine, arguments.disk, live=True) as machine:
        attach(machine, "the machine ends")
    return 0


def attach(machine: Machine, then: str) -> None:
    host.say(f"Ctrl-] leaves this console, and {then}")
    console.attach(machine.sockets / "console", console.terminal_size())


def serve_command(arguments: argparse.Namespace) -> int:
    with serve.held("starting the machine"):
        machine = serve.start(arguments.machine)
        serve.refresh(machine)
    host.say(f"running as process {machine.pid}, logs in {machine.out}; end it: python -m vm stop")
    return 0


def exec_command(arguments: argparse.Namespace) -> int:
    with serve.held(" ".join(arguments.argv)):
        machine = serve.start(arguments.machine)
        serve.refresh(machine)
        return job.run(machine, arguments.argv, arguments.timeout)


def stop_command(_: argparse.Namespace) -> int:
    host.say("the machine has ended" if serve.stop() else "no machine is running")
    return 0


def demo_command(_: argparse.Namespace) -> int:
    return demonstration.run()


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
        if hasattr(arguments, "machine"):
            arguments.machine = resolve(arguments.machine)
        return COMMANDS[arguments.command](arguments)
    except host.VmError as error:
        host.say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
