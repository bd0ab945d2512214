"""Whose lock may be broken: only one of a process of this host that is gone."""

from __future__ import annotations

import os
import subprocess
import sys

from tcmu_runner.handlers.rbd_holder import LockOwner

CLIENT = "127.0.0.1:0/952292049"


def test_a_note_is_read_as_it_was_written() -> None:
    me = LockOwner.me(CLIENT)
    assert LockOwner.parse(str(me)) == me
    assert me.pid == os.getpid()


def test_notes_of_others() -> None:
    for note in ("", "tcmu_tag=1,rbd_client=client.4113", "a b c d", "a b 1", "a b 1 2 3"):
        assert LockOwner.parse(note) is None


def test_a_living_process_keeps_its_lock() -> None:
    assert not LockOwner.me(CLIENT).is_dead(CLIENT)


def test_a_process_that_ended_does_not() -> None:
    text = "from tcmu_runner.handlers.rbd_holder import LockOwner; print(LockOwner.me('c'))"
    note = subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, check=True).stdout
    holder = LockOwner.parse(note)
    assert holder is not None
    assert holder.is_dead("c")
    assert not holder.is_dead("another client has the lock")
    assert not holder._replace(boot="another-host").is_dead("c")


def test_another_process_with_its_number_is_not_it() -> None:
    assert LockOwner.me(CLIENT)._replace(started="1").is_dead(CLIENT)
