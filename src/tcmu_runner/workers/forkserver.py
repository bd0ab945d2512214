"""The forkserver: one process from which all workers are forked, so that they share its memory."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tcmu_runner.errors import ExhaustedError, explain
from tcmu_runner.logs import Logs
from tcmu_runner.sandbox import die_with_parent, keep_pages_small, name_process
from tcmu_runner.workers.protocol import MAX_LENGTH, Ended, Forked, LogTo, decode, encode
from tcmu_runner.workers.worker import Worker

COLD, REHEARSED = b"cold", b"rehearsed"

log = logging.getLogger(__name__)


class ForkServer:
    """The supervisor's end of the forkserver, a process with one thread and all handlers loaded: workers
    forked from it share its memory. Call `start` before there is any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def start(
        cls, make_worker: Callable[[socket.socket], Worker], logs: Logs, let_go: Callable[[], None]
    ) -> ForkServer:
        """make_worker: called in each worker with its end of the control socket. logs: the log, in all
        processes. let_go: called in the forkserver; closes what only the supervisor may have open."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            let_go()
            _live(lambda: _breed(theirs, make_worker, logs))
        theirs.close()
        return cls(ours)

    def fork(self, *, rehearsed: bool = False) -> socket.socket:
        """Forks a worker; returns the supervisor's end of its socket. rehearsed: the worker first does a dry
        run, so that it serves faster later. Raises OSError when the forkserver has ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._socket, [REHEARSED if rehearsed else COLD], [theirs.fileno()])
        ours.setblocking(False)
        return ours

    def log_to(self, level: int, descriptor: int) -> None:
        """Sets level and file for the forkserver and the workers that it forks later."""
        socket.send_fds(self._socket, [encode(LogTo(level))], [descriptor])

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Forked | Ended | None:
        """Call once `fileno` is readable. There is one Forked for each call of `fork`, in their order, and a
        worker's Ended follows its Forked. None: the forkserver itself has ended."""
        with suppress(ConnectionResetError):
            if datagram := self._socket.recv(MAX_LENGTH):
                message = decode(datagram)
                assert isinstance(message, Forked | Ended)
                return message
        return None

    def close(self) -> None:
        """Ends the forkserver and with it every worker that still runs."""
        self._socket.close()


def _live(life: Callable[[], None]) -> None:
    """Runs a child process to its end, with os._exit: none of the parent's clean-up runs in it."""
    status = 1
    try:
        life()
        status = 0
    except Exception as error:
        if _is_exhaustion(error):  # no memory or descriptors, or workers.memory: no bug, so no traceback
            log.error("process %d ends: %s", os.getpid(), explain(error)[1])
        else:
            log.exception("a child process failed")
    finally:
        os._exit(status)


def _is_exhaustion(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return isinstance(error, ExhaustedError | MemoryError)


def _breed(end: socket.socket, make_worker: Callable[[socket.socket], Worker], logs: Logs) -> None:
    name_process("tcmu-template")
    keep_pages_small()
    gc.freeze()  # the collector would write to the shared pages and so copy them
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # we end when the supervisor closes the socket
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
        with socket.socket(fileno=descriptors[0]) as control:
            _fork_worker(end, partial(_work, make_worker, control, rehearsed=datagram == REHEARSED))


def _fork_worker(end: socket.socket, life: Callable[[], None]) -> None:
    """If fork(2) fails, only this worker is lost: its socket closes, and the supervisor tries again."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # else its Ended could come before its Forked
    try:
        child = os.fork()
    except OSError as error:  # EAGAIN, ENOMEM: fork(2)
        log.error("cannot fork a worker process: %s; raise TasksMax= of the service, or free memory", error)
        child = -1
    if child == 0:
        end.close()
        name_process("tcmu-idle")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        die_with_parent()
        _live(life)
    with suppress(BrokenPipeError):  # the supervisor has ended: `_breed` reads end of file next
        end.send(encode(Forked(max(child, 0))))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _work(make_worker: Callable[[socket.socket], Worker], control: socket.socket, *, rehearsed: bool) -> None:
    worker = make_worker(control)
    if rehearsed:
        worker.get_ready()
    worker.run()


def _tell_of_ends(end: socket.socket) -> None:
    """The supervisor sees the death on the worker's socket; the exit status reaches only us, its parent:
    forward it. Runs as the handler of SIGCHLD."""
    with suppress(ChildProcessError, BlockingIOError, BrokenPipeError):
        while (child := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            end.send(encode(Ended(*child)), socket.MSG_DONTWAIT)
