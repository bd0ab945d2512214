"""`nbd`, on nbdkit and qemu-nbd."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness import Case, ServerBackend

AWAY = ("lost the connection to its storage", "no connection to the server for 20 s")
CRASH_SECONDS = 1.0
ELSEWHERE = "it differs from the case nbd in how the server is reached alone"


class NbdkitBackend(ServerBackend):
    """A file. What is not flushed is lost when the server dies: it is in a cache of the server's own, which
    does not know that it changes the extents."""

    words: Sequence[str] = ("--filter=noextents", "--filter=cache", "file", "cache=writeback")

    @property
    def socket(self) -> Path:
        return self.directory / "nbd.sock"

    @property
    def config(self) -> str:
        return f"nbd/unix{self.socket}"

    def prepare(self) -> None:
        with (self.directory / "disk.img").open("wb") as image:
            image.truncate(self.size)

    def command(self) -> Sequence[str | Path]:
        self.socket.unlink(missing_ok=True)
        place = f"file={self.directory}/disk.img"
        return ["env", f"TMPDIR={self.directory}", "nbdkit", "-f", "-U", self.socket, *self.words, place]

    def ready(self) -> bool:
        return self.socket.exists()

    def revive(self) -> None:
        """nbdkit 1.32 may crash with a client (connections.c:402), a moment after it."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(CRASH_SECONDS)
        super().revive()


class PlainNbdkitBackend(NbdkitBackend):
    words = ("file",)


class ManyConnectionsBackend(PlainNbdkitBackend):
    """One flush, on one of the connections, is for what the others have written."""

    @property
    def config(self) -> str:
        return f"{super().config};connections=4"


class TlsBackend(ServerBackend):
    """qemu-nbd over TCP and TLS, with certificates for both sides."""

    def prepare(self) -> None:
        with (self.directory / "disk.img").open("wb") as image:
            image.truncate(self.size)
        certificates(self.directory)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def config(self) -> str:
        return f"nbd/tcp/localhost/{self.port};export=disk;tls={self.directory}"

    def command(self) -> Sequence[str | Path]:
        credentials = f"tls-creds-x509,id=tls,endpoint=server,verify-peer=yes,dir={self.directory}"
        return [
            "qemu-nbd", "--persistent", "--shared=4", "--discard=unmap", "-f", "raw", "-x", "disk",
            "--object", credentials, "--tls-creds", "tls", "-b", "127.0.0.1", "-p", str(self.port),
            self.directory / "disk.img",
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True


def certificates(directory: Path) -> None:
    """An authority, and what it has signed for a server `localhost` and a client, named as QEMU wants it."""
    new = "req -newkey rsa:2048 -nodes -subj"
    _openssl(directory, f"{new} /CN=test -x509 -days 2 -keyout ca.key -out ca-cert.pem")
    for who in ("server", "client"):
        (directory / f"{who}.ext").write_text("subjectAltName=DNS:localhost\n")
        _openssl(directory, f"{new} /CN={who} -keyout {who}-key.pem -out {who}.csr")
        _openssl(
            directory,
            f"x509 -req -in {who}.csr -CA ca-cert.pem -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile {who}.ext -out {who}-cert.pem",
        )


def _openssl(directory: Path, words: str) -> None:
    done = subprocess.run(["openssl", *words.split()], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


CASES = [
    Case(
        "nbd", NbdkitBackend, complaints=AWAY,
        without={
            "backend_full": "its cache fills up, not its disk",
            "served_killed": "nbdkit 1.32 may crash with a client (connections.c:402), its cache with it",
        },
    ),
    Case("nbd-plain", PlainNbdkitBackend, complaints=AWAY, block_size=4096),
    Case(
        "nbd-connections", ManyConnectionsBackend, complaints=AWAY,
        without=dict.fromkeys(("backend_gone", "backend_slow", "backend_full"), ELSEWHERE),
    ),
    Case(
        "nbd-tls", TlsBackend, complaints=AWAY,
        without=dict.fromkeys(
            ("backend_gone", "backend_slow", "served_killed", "backend_full", "fio_verify"), ELSEWHERE
        ),
    ),
]  # fmt: skip
