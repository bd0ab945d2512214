"""The kit passes what is sound, names the rule that is broken, and raises nothing itself."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tcmu_runner.handler import Device
from tcmu_runner.iov import Buffers
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.conformance import Outcome, Report, check_class, check_handler, life
from tcmu_runner.testing.conformance import device as any_device

from . import broken
from .broken import BROKEN, Failing, Subject
from .sound import STORE, Sound, SoundAsync, SoundRaw

SIZE = 1 << 20


def device(size: int = SIZE) -> Device:
    return any_device(size)


check = partial(check_handler, size=SIZE)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    STORE.clear()
    broken.RELEASE.clear()
    yield
    broken.RELEASE.set()
    while broken.LEAKED:
        os.close(broken.LEAKED.pop())


def outcomes(report: Report) -> dict[str, Outcome]:
    return {result.name: result.outcome for result in report.results}


def only_not_applicable(report: Report, *names: str) -> None:
    assert report.ok, str(report)
    assert {name for name, outcome in outcomes(report).items() if outcome is Outcome.NOT_APPLICABLE} == set(
        names
    )


def failing(cls: type[Subject]) -> Failing:
    assert issubclass(cls, Failing)
    handler = cls(device())
    handler.failing = True
    return handler


class FailsRightly(Failing):
    """fails_rightly/ as it should"""

    def write(self, data: Buffers, offset: int) -> None:
        if self.failing:
            raise OSError(errno.EIO, "dead")
        super().write(data, offset)


# -- what is sound ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [512, 4096])
def test_a_sound_handler_passes(block_size: int) -> None:
    report = check(
        lambda: Sound.open(any_device(block_size * 2048, block_size), ""),
        size=block_size * 2048, block_size=block_size, persistent=True,
        open_failing=lambda: failing(FailsRightly),
    )  # fmt: skip
    only_not_applicable(report, "inline", "command")


def test_a_sound_handler_on_the_rings_thread_passes() -> None:
    class Inline(Sound):
        """inline/"""

        threads = 0

        def __init__(self, device: Device) -> None:
            super().__init__(device)
            self.callers: set[int] = set()

        def read(self, into: Buffers, offset: int) -> None:
            self.callers.add(threading.get_ident())
            assert len(self.callers) == 1, "threads = 0, and called on two threads"
            super().read(into, offset)

    report = check(lambda: Inline(device()), persistent=True)
    only_not_applicable(report, "at once", "command", "errors")


def test_a_sound_asyncio_handler_passes() -> None:
    report = check(lambda: SoundAsync.open(device(), ""), persistent=True)
    only_not_applicable(report, "inline", "command", "errors")


def test_a_sound_raw_handler_passes() -> None:
    report = check(lambda: SoundRaw(device()))
    only_not_applicable(
        report, "write", "flush", "write durable", "unmap", "write zeroes", "extents", "space",
        "crypto erase", "compare and write", "write same", "random sequence", "inline", "resize",
        "persistence", "durability", "errors",
    )  # fmt: skip


def test_a_refused_opening_is_a_rightly_reported_failure() -> None:
    def refuse() -> Sound:
        raise OSError(errno.EIO, "dead")

    assert outcomes(check(lambda: Sound(device()), open_failing=refuse))["errors"] is Outcome.PASSED


def test_a_read_only_handler_may_fail_too() -> None:
    class ReadOnly(Failing):
        """read_only/"""

        def capabilities(self) -> Capabilities:
            return Capabilities()

    report = check(lambda: ReadOnly(device()), open_failing=lambda: failing(ReadOnly))
    assert outcomes(report)["errors"] is Outcome.PASSED


def test_a_refused_resize_passes() -> None:
    class Fixed(Sound):
        """fixed/"""

        def resize(self, size: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "the image has a fixed size")

    assert check(lambda: Fixed(device())).ok


def test_unmapped_bytes_that_may_read_as_anything_pass() -> None:
    class KeepsBytes(Sound):
        """keeps_bytes/"""

        unmap_reads_zero = False

        def unmap(self, offset: int, length: int) -> None:
            pass

    assert check(lambda: KeepsBytes(device())).ok


def test_a_whole_class() -> None:
    report = check_class(Sound, "", block_size=4096)
    assert report.ok
    assert report.title == "sound (Sound)"
    refused = check_class(Sound, "nonsense")
    assert refused.failed[0].name == "opening"
    assert "sound takes no configuration" in refused.failed[0].text


# -- what is broken --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "cls", "words"), BROKEN, ids=[cls.__name__ for _, cls, _ in BROKEN])
def test_a_broken_handler_is_caught_by_the_check_of_that_rule(
    name: str, cls: type[Subject], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "SETTLING", 0.1)  # what leaks for ever leaks then
    report = check(
        lambda: cls.open(device(), ""),
        persistent=name in ("persistence", "durability"),
        open_failing=(lambda: failing(cls)) if name == "errors" else None,
    )
    found = {result.name: result.text for result in report.failed}
    assert name in found, str(report)
    assert words in found[name], str(report)
    assert not report.ok


def test_a_call_that_hangs_ends_the_check() -> None:
    release = threading.Event()

    class Hangs(Sound):
        """hangs/"""

        def write(self, data: Buffers, offset: int) -> None:
            release.wait()

    report = check(lambda: Hangs(device()), patience=0.3)
    release.set()
    (failed,) = report.failed
    assert failed.name == "write"
    assert failed.text == "a call did not return within 0.3 s: what does it wait for?"
    assert report.results[-1].text == "an earlier call has not returned"


def test_what_cannot_be_opened() -> None:
    def refuse() -> Sound:
        raise PermissionError(errno.EACCES, "keep out")

    report = check(refuse)
    assert [result.name for result in report.failed] == ["opening"]
    assert (
        "open raised PermissionError ([Errno 13] keep out) at test_conformance.py:" in report.failed[0].text
    )
    assert {result.text for result in report.results[1:]} == {"it could not be opened"}


@pytest.mark.parametrize("size", [0, 511 * 512, 512 * 512 + 1])
def test_a_disk_too_small_to_check(size: int) -> None:
    report = check(lambda: Sound(device(size)), size=size)
    assert "the check needs 512 whole blocks" in report.failed[0].text


def test_a_handler_smaller_than_it_is_said_to_be() -> None:
    class Small(Sound):
        """small/"""

        def read(self, into: Buffers, offset: int) -> None:
            if offset + sum(map(len, into)) > self.size:
                raise OSError(errno.EINVAL, "beyond the end")
            super().read(into, offset)

    report = check(lambda: Small(device(SIZE // 2)))
    assert "be as large as the check is told" in report.failed[0].text


# -- the report ------------------------------------------------------------------------------------------


def test_the_report_has_a_line_for_each_check() -> None:
    class Broken(Sound):
        """broken/"""

        def flush(self) -> None:
            raise OSError(errno.EIO, "dead")

        def capabilities(self) -> Capabilities:
            return Capabilities(write=True, flush=True)

    report = check(lambda: Broken(device()))
    title, *lines = str(report).splitlines()
    assert title.endswith("(Broken): 14 passed, 3 failed, 12 not applicable")
    assert len(lines) == len(report.results) == 29
    assert "passed          odd splits         buffers may have any lengths, only their sum is" in str(report)
    assert "FAILED          flush              flush raised OSError ([Errno 5] dead) at test_conf" in str(
        report
    )
    assert "not applicable  unmap              the handler offers no unmap()" in str(report)


def test_a_handler_that_forgets_is_said_to_be_unchecked() -> None:
    class Forgets(Sound):
        """forgets/"""

        def write(self, data: Buffers, offset: int) -> None:
            pass

    report = check(lambda: Forgets(device()), forgets=True)
    assert report.ok
    assert "(contents are not compared)" in report.title


def test_the_kit_leaves_no_threads_behind() -> None:
    def run() -> None:
        check(lambda: Sound(device()))
        check(lambda: SoundAsync.open(device(), ""))

    run()
    for thread in threading.enumerate():
        if thread.name.startswith("conformance"):
            thread.join(30)
            assert not thread.is_alive(), thread.name


def test_authors_need_no_pytest(tmp_path: Path) -> None:
    code = "import sys; import tcmu_runner.testing.conformance; sys.exit('pytest' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path()}
    )


def path() -> str:
    return os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
