"""Names that are no text: the kernel takes any bytes, and nothing of ours hangs or breaks on them."""

import json
from pathlib import Path

from support.configfs import Backstore
from support.daemon import Daemon
from support.deadline import attempt, command
from support.fixtures import MIB

STRANGE = b"n\xe4me".decode(errors="surrogateescape")  # 0xE4 without more is no UTF-8
SHOWN = r"user_0/n\xe4me"


def test_bytes_that_are_no_utf8(daemon: Daemon, tmp_path: Path) -> None:
    store = Backstore.create(STRANGE, f"file/{tmp_path}/gr\udcf6\udcdfe.img", 8 * MIB)
    store.enable()
    (device,) = json.loads(command("tcmu-runner", "list", "--json"))
    assert (device["name"], device["config"]) == (SHOWN, rf"file/{tmp_path}/gr\xf6\xdfe.img")
    for words in (["list"], ["show", SHOWN], ["top", "--count", "1"], ["restart", SHOWN]):
        ended = attempt("tcmu-runner", *words)
        assert ended.status == 0, ended
    assert SHOWN in attempt("tcmu-runner", "doctor").output
    daemon.wait_for_log(r"user_0/n\\xe4me \(file/.*gr\\xf6\\xdfe.img\): served again")
    store.remove()
