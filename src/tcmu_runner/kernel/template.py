"""The template: one process from which all workers are forked, so that they share its memory."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tcmu_runner.kernel.messages import MAX_LENGTH, Ended, LogTo, decode, encode
from tcmu_runner.kernel.processes import die_with_parent, keep_pages_small, name_process
from tcmu_runner.kernel.worker import Worker
from tcmu_runner.logs import Log

COLD, REHEARSED = b"cold", b"rehearsed"

log = logging.getLogger(__name__)


class Template:
    """A process with one thread and all handlers loaded, from which workers are forked: their memory is
    shared with it. `start` is to be called before there is any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def start(cls, make_worker: Callable[[socket.socket], Worker], logs: Log) -> Template:
        """`make_worker`: in a new process, from its end of the control socket. `logs`: the log there and
        here."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            _live(lambda: _breed(theirs, make_worker, logs))
        theirs.close()
        return cls(ours)

    def fork(self, *, rehearsed: bool = False) -> socket.socket:
        """A new worker: the supervisor's end of its socket. rehearsed: it takes its time to get ready to be
        fast later. Raises OSError when the template is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [REHEARSED if rehearsed else COLD], [theirs.fileno()])
        ours.setblocking(False)
        return ours

    def log_to(self, level: int, descriptor: int) -> None:
        """For the template and all workers to come."""
        socket.send_fds(self._socket, [encode(LogTo(level))], [descriptor])

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Ended | None:
        """How a worker has ended, once `fileno` is readable; None: the template itself has."""
        with suppress(ConnectionResetError):
            if datagram := self._socket.recv(MAX_LENGTH):
                ended = decode(datagram)
                assert isinstance(ended, Ended)
                return ended
        return None

    def close(self) -> None:
        """Ends the template and with it every worker that is left."""
        self._socket.close()


def _live(life: Callable[[], None]) -> None:
    """Runs a child process to its end; nothing of the parent's clean-up happens in it."""
    status = 1
    try:
        life()
        status = 0
    except Exception:
        log.exception("a child process failed")
    finally:
        os._exit(status)


def _breed(end: socket.socket, make_worker: Callable[[socket.socket], Worker], logs: Log) -> None:
    name_process("tcmu-template")
    keep_pages_small()
    gc.freeze()  # the collector must not write to memory that is shared
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the supervisor tells us of new logs, and ends us by closing
    signal.signal(signal.SIGCHLD, lambda *_: _tell_of_ends(end))
    while True:
        try:
            datagram, descriptors, _, _ = socket.recv_fds(end, MAX_LENGTH, 1)
        except ConnectionResetError:  # the supervisor died before it had read everything
            return
        if not datagram:
            return
        if datagram not in (COLD, REHEARSED):
            message = decode(datagram)
            assert isinstance(message, LogTo)
            logs.set_level(message.level)
            logs.follow(descriptors[0])
            continue
        control = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            end.close()
            name_process("tcmu-idle")
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            _live(partial(_work, make_worker, control, rehearsed=datagram == REHEARSED))
        control.close()


def _work(make_worker: Callable[[socket.socket], Worker], control: socket.socket, *, rehearsed: bool) -> None:
    worker = make_worker(control)
    if rehearsed:
        worker.get_ready()
    worker.run()


def _tell_of_ends(end: socket.socket) -> None:
    """That a worker has ended its own socket tells; how, only its parent is told."""
    with suppress(ChildProcessError, BlockingIOError, BrokenPipeError):
        while (child := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            end.send(encode(Ended(*child)), socket.MSG_DONTWAIT)
