"""What happens in the machine while the page is looked at: `python3 tests/page/scene.py ACT [ARGUMENT...]`.

Stands on the support of tests/vm. Each act ends when it is done.
"""

import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, "tests/vm")
from support import cleanup
from support.configfs import Backstore
from support.deadline import attempt, command, eventually
from support.handlers import handler_path
from support.loopback import Loopback

PORT = 9809
UNIT, LOAD, BREAK = "watched-daemon", "watched-load", "watched-break"
SETTINGS = Path("/run/watched.toml")
MIB = 1 << 20
READ_AT_TRIGGER = "28 00 00 00 88 00 00 00 08 00"  # 4096 bytes at 17 MiB, see tests/vm/handlers/broken.py


def start() -> None:
    command("modprobe", "-a", "target_core_user", "tcm_loop")
    SETTINGS.write_text(f'[metrics]\nport = {PORT}\nhost = "0.0.0.0"\n')
    options = [*handler_path(), "--settings", str(SETTINGS)]
    command("systemd-run", f"--unit={UNIT}", "--collect", "tcmu-runner", *options)
    eventually("an answer of the page", answers, 120)


def answers() -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PORT}/status.json", timeout=10):
        return True
    return False


def stop() -> None:
    command("systemctl", "stop", UNIT, seconds=60)


def make(name: str, config: str, number: str) -> None:
    """A backstore, and a disk of it."""
    backstore = Backstore.create(name, config, 64 * MIB)
    backstore.enable()
    Loopback(int(number)).create().add(backstore)


def make_many(first: str, end: str) -> None:
    for number in range(int(first), int(end)):
        Backstore.create(f"vol{number:02}", "ram/", MIB).enable()


def disk(number: str) -> Path:
    block = Loopback(int(number)).scsi_device() / "block"
    return Path("/dev") / next(block.iterdir()).name


def load(number: str) -> None:
    """Steady random reads and writes, until `clean`."""
    job = "--direct=1 --rw=randrw --bs=4k --rate_iops=50,50 --time_based --runtime=900"
    fio = ["fio", "--name=load", f"--filename={disk(number)}", *job.split()]
    command("systemd-run", f"--unit={LOAD}", "--collect", *fio)


def trigger(number: str, seconds: str) -> None:
    """The READ that these handlers do not survive; it is tried for so long."""
    options = f"--cmdset=1 --timeout={seconds} --request=4096 --outfile=/dev/null"
    sg_raw = ["sg_raw", *options.split(), str(disk(number)), *READ_AT_TRIGGER.split()]
    command("systemd-run", f"--unit={BREAK}", "--collect", *sg_raw)


def remove(name: str, number: str) -> None:
    Loopback(int(number)).delete()
    Backstore(name).remove()


def empty() -> None:
    """There is no device any more."""
    for unit in (BREAK, LOAD):
        attempt("systemctl", "stop", unit)
    cleanup.everything()


def clean() -> None:
    empty()
    attempt("systemctl", "stop", UNIT)


ACTS: dict[str, Callable[..., None]] = {
    act.__name__: act for act in (start, stop, make, make_many, load, trigger, remove, empty, clean)
}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*sys.argv[2:])
