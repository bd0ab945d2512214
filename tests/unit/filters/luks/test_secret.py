from __future__ import annotations

import subprocess
import sys

import pytest

from tcmu_runner.filters.luks.secret import Secret, address, pages


def flags_of(secret: Secret) -> set[str]:
    """Of the pages it is in, as the kernel tells them (proc(5), VmFlags)."""
    at, inside = address(secret.view), False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            first, _, rest = line.partition(" ")
            if "-" in first:
                start, end = (int(edge, 16) for edge in first.split("-"))
                inside = start <= at < end
            elif inside and first == "VmFlags:":
                return set(rest.split())
    raise AssertionError("it is in no mapping")


def test_its_pages_are_in_no_core_dump_and_no_child() -> None:
    with Secret(4096) as secret:
        assert {"dd", "dc"} <= flags_of(secret)


def test_it_is_zeroed_in_the_end() -> None:
    secret = Secret(16)
    memory = secret._memory
    seen: list[bytes] = []

    class Watched:
        closed = False

        def close(self) -> None:
            seen.append(memory[:16])
            memory.close()

    secret.view[:] = b"0123456789abcdef"
    secret._memory = Watched()  # type: ignore[assignment]
    secret.wipe()
    assert seen == [bytes(16)]


def test_what_a_library_returned_is_zeroed() -> None:
    found = b"".join([b"secret", b" of no constant"])
    with Secret.taken_from(found) as secret:
        assert bytes(secret.view) == b"secret of no constant"
        assert found == bytes(len(found))


def test_it_cannot_be_used_afterwards_and_ends_twice() -> None:
    secret = Secret(16)
    secret.wipe()
    secret.wipe()
    with pytest.raises(ValueError, match="released"):
        secret.view[0] = 1


def test_a_process_that_forbids_core_dumps_is_not_dumpable() -> None:
    program = """
import ctypes
from tcmu_runner.filters.luks.secret import forbid_core_dumps
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
forbid_core_dumps()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "1 0\n"


def test_pages_begin_on_a_page_boundary() -> None:
    assert address(pages(512)) % 4096 == 0
