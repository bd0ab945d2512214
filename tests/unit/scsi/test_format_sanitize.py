import errno
from collections.abc import Generator

import pytest

from tcmu_runner.scsi.command import Command, Nexus
from tcmu_runner.scsi.operations import CryptoErase, Flush, Operation, Steps, Unmap, Write, WriteZeroes
from tcmu_runner.scsi.sense import ScsiError
from tcmu_runner.scsi.unit import Capabilities, Unit
from tcmu_runner.testing.play import EVERYTHING, Ending, Step, bytes_of, disk, play

BLOCK = bytes(range(256)) * 2
ALL = 1024 * 512
TEST_UNIT_READY, REQUEST_SENSE = "00 00 00 00 00 00", "03 00 00 00 12 00"
FORMAT, FORMAT_WITH_DATA = "04 00 00 0000 00", "04 10 00 0000 00"
OVERWRITE, BLOCK_ERASE, CRYPTO_ERASE, EXIT = (
    "48 01 0000000000 {:04x} 00", "48 02 0000000000 0000 00", "48 03 0000000000 0000 00",
    "48 1f 0000000000 0000 00",
)  # fmt: skip


def started(unit: Unit, cdb: str, out: bytes = b"") -> Generator[Operation, None, None]:
    """The command, held at its first operation."""
    data = [memoryview(bytearray(out))] if out else []
    plan = unit.begin(Command(bytes.fromhex(cdb), data, Nexus()))
    assert isinstance(plan, Generator)
    return plan


# FORMAT UNIT (SBC-4 5.4)


def test_format_zeroes_everything() -> None:
    step = (WriteZeroes(0, ALL, unmap=True), None)
    assert play(disk(), FORMAT, step).status == 0
    unit = disk(Capabilities(write=True))
    assert play(unit, FORMAT, (Write(0, bytes_of(bytes(ALL)), fua=True), None)).status == 0


@pytest.mark.parametrize(
    ("parameters", "cdb"),
    [
        ("00 00 0000", FORMAT_WITH_DATA),  # SBC-4 table 43: short header, no options
        ("f8 00 0000", FORMAT_WITH_DATA),  # reserved beside PROTECTION FIELDS USAGE
        ("00 00 0000", "04 10 55 5554 00"),  # CDB: vendor specific, and INTERLEAVE of old standards
        ("00 a0 0000", FORMAT_WITH_DATA),  # FOV, DCRT: no certification
        ("00 00 00 00 00000000", "04 30 00 0000 00"),  # LONGLIST, table 44
        ("00 88 0000 00 00 0000", FORMAT_WITH_DATA),  # FOV, IP: the default pattern
    ],
)
def test_format_with_parameters(parameters: str, cdb: str) -> None:
    out = bytes.fromhex(parameters)
    assert play(disk(), cdb, (WriteZeroes, None), out=out).status == 0


def test_format_with_a_pattern() -> None:
    # SBC-4 table 47: INITIALIZATION PATTERN TYPE 01h, four bytes
    out = bytes.fromhex("00 88 0000 00 01 0004 deadbeef")
    step = (Write(0, bytes_of(bytes.fromhex("deadbeef") * (ALL // 4))), None)
    assert play(disk(), FORMAT_WITH_DATA, step, out=out).status == 0


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("00 00 00", "5/1A/00"),
        ("01 00 0000", "5/26/00"),  # PROTECTION FIELD USAGE
        ("00 20 0000", "5/26/00"),  # DCRT without FOV
        ("00 00 0004 00000000", "5/26/00"),  # a defect list
        ("00 88 0000", "5/1A/00"),  # IP without its descriptor
        ("00 88 0000 00 02 0000", "5/26/00"),  # a reserved pattern type
        ("00 88 0000 00 01 0000", "5/26/00"),  # no pattern
        ("00 88 0000 00 01 0004 dead", "5/1A/00"),
        ("00 88 0000 00 01 0201 " + "00" * 513, "5/26/00"),  # longer than a block
        ("00 88 0000 40 00 0000", "5/26/00"),  # IP MODIFIER
    ],
)
def test_wrong_format_parameters(parameters: str, why: str) -> None:
    unit = disk()
    assert play(unit, FORMAT_WITH_DATA, out=bytes.fromhex(parameters)).triple == why
    assert play(unit, TEST_UNIT_READY).status == 0


def test_protection_information_is_refused() -> None:
    assert play(disk(), "04 80 00 0000 00").triple == "5/24/00"  # FMTPINFO


def test_progress_of_a_format() -> None:
    # SBC-4 4.33.2: others get NOT READY, 04/04 FORMAT IN PROGRESS with the progress in 65536ths
    unit = disk(Capabilities(write=True), blocks=8192)
    steps = started(unit, FORMAT)
    next(steps)
    next(steps)  # a quarter of 4 MiB is done
    outcome = play(unit, TEST_UNIT_READY)
    assert outcome.triple == "2/04/04"
    assert outcome.sense is not None
    assert outcome.sense.encode()[15:18].hex() == "804000"
    sense = play(unit, REQUEST_SENSE, room=18).data
    assert (sense[2], sense[12:14].hex(), sense[15:18].hex()) == (0x02, "0404", "804000")
    for cdb in ("28 00 00000000 00 0001 00", "2a 00 00000000 00 0001 00", FORMAT, OVERWRITE.format(0)):
        assert play(unit, cdb, out=BLOCK).triple == "2/04/04"
    assert play(unit, "1b 00 00 00 01 00").triple == "2/04/04"  # START STOP UNIT
    assert play(unit, "12 00 00 0024 00", room=36).status == 0
    for _ in steps:
        pass
    assert play(unit, TEST_UNIT_READY).status == 0


def test_progress_of_a_huge_format_does_not_overflow() -> None:
    """prior-art 2.1 #5: a 32-bit block counter never ended, and the progress overflowed."""
    unit = disk(blocks=1 << 34)
    steps = started(unit, FORMAT)
    last = -1
    for count, operation in enumerate(steps):
        assert isinstance(operation, WriteZeroes)
        assert operation.length <= 64 << 20
        if count % 1000 == 0:
            outcome = play(unit, TEST_UNIT_READY)
            assert outcome.sense is not None
            part = int.from_bytes(outcome.sense.encode()[16:18], "big")
            assert last < part <= 0xFFFF
            last = part
    assert count + 1 == (1 << 34) * 512 // (64 << 20)


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_any_failed_write_fails_the_format(failing: int) -> None:
    """prior-art 2.1 #5: the errors of all but the last write were ignored."""
    unit = disk(Capabilities(write=True), blocks=8192)
    error = OSError(errno.EIO, "broken")
    steps = [(Write, None)] * failing + [(Write, error)]
    assert play(unit, FORMAT, *steps).error is error
    # SBC-4 4.33: 3/31/01 FORMAT COMMAND FAILED until a format succeeds
    assert play(unit, TEST_UNIT_READY).triple == "3/31/01"
    assert play(unit, "28 00 00000000 00 0001 00", room=512).triple == "3/31/01"
    assert play(unit, FORMAT, *[(Write, None)] * 4).status == 0
    assert play(unit, TEST_UNIT_READY).status == 0


def test_a_format_given_up_has_failed() -> None:
    unit = disk(Capabilities(write=True), blocks=8192)
    steps = started(unit, FORMAT)
    next(steps)
    steps.close()
    assert play(unit, TEST_UNIT_READY).triple == "3/31/01"


def test_format_in_the_background() -> None:
    # SBC-4 table 43: IMMED (bit 1): the status comes before the work
    unit = disk()
    background: list[Steps] = []
    unit.spawn = background.append
    assert play(unit, FORMAT_WITH_DATA, out=bytes.fromhex("00 02 0000")).status == 0
    assert play(unit, TEST_UNIT_READY).triple == "2/04/04"
    assert list(background[0]) == [WriteZeroes(0, ALL, unmap=True)]
    assert play(unit, TEST_UNIT_READY).status == 0


def test_immed_with_nobody_to_do_the_work_later() -> None:
    out = bytes.fromhex("00 02 0000")
    assert play(disk(), FORMAT_WITH_DATA, (WriteZeroes, None), out=out).status == 0


def test_two_formats_at_once() -> None:
    """Both have begun before either runs: the second ends where the first is at work."""
    unit = disk()
    one, other = started(unit, FORMAT), started(unit, FORMAT)
    next(one)
    with pytest.raises(ScsiError) as raised:
        next(other)
    assert (raised.value.sense.asc, raised.value.sense.ascq) == (0x04, 0x04)
    assert list(one) == []
    assert play(unit, TEST_UNIT_READY).status == 0


# SANITIZE (SBC-4 5.30)


def overwrite(unit: Unit, parameters: str, *script: Step) -> Ending:
    out = bytes.fromhex(parameters)
    return play(unit, OVERWRITE.format(len(out)), *script, out=out)


def test_overwrite() -> None:
    # SBC-4 table 115: OVERWRITE COUNT 1, the pattern repeated; then nothing is left in a cache
    steps = ((Write(0, bytes_of(b"\xaa\xbb" * (ALL // 2))), None), (Flush, None))
    assert overwrite(disk(), "01 00 0002 aabb", *steps).status == 0


def test_the_pattern_begins_anew_in_each_block() -> None:
    block = (b"\x01\x02\x03" * 171)[:512]
    assert (
        overwrite(disk(), "01 00 0003 010203", (Write(0, bytes_of(block * 1024)), None), (Flush, None)).status
        == 0
    )


def test_overwrite_with_inversion_ends_with_the_pattern() -> None:
    # INVERT: inverted between the passes
    pattern, inverted = b"\x0f" * ALL, b"\xf0" * ALL
    steps = [
        step
        for content in (pattern, inverted, pattern)
        for step in ((Write(0, bytes_of(content)), None), (Flush, None))
    ]
    assert overwrite(disk(), "83 00 0001 0f", *steps).status == 0


@pytest.mark.parametrize("size", [0, 1, 4, 517])
def test_overwrite_with_a_wrong_list_length(size: int) -> None:
    # SBC-4 5.30: less than five or more than the block length plus four: 5/24/00
    assert play(disk(), OVERWRITE.format(size), out=bytes(size)).triple == "5/24/00"


@pytest.mark.parametrize("parameters", ["00 00 0001 00", "01 00 0000 00", "01 00 0002 00", "61 00 0001 00"])
def test_wrong_overwrite_parameters(parameters: str) -> None:
    assert overwrite(disk(), parameters).triple == "5/26/00"


def test_overwrite_without_its_data() -> None:
    assert play(disk(), OVERWRITE.format(8), out=bytes(6)).triple == "5/1A/00"


def test_block_erase() -> None:
    assert play(disk(), BLOCK_ERASE, (WriteZeroes(0, ALL, unmap=True), None), (Flush, None)).status == 0
    unit = disk(Capabilities(write=True, unmap=True, unmap_reads_zero=True))
    assert play(unit, BLOCK_ERASE, (Unmap(0, ALL), None), (Flush, None)).status == 0


def test_erasing_follows_the_capabilities() -> None:
    assert play(disk(Capabilities(write=True)), BLOCK_ERASE).triple == "5/24/00"
    assert play(disk(EVERYTHING), CRYPTO_ERASE).triple == "5/24/00"
    unit = disk(Capabilities(write=True, crypto_erase=True))
    assert play(unit, CRYPTO_ERASE, (CryptoErase, None)).status == 0


@pytest.mark.parametrize("action", [0x02, 0x03, 0x1F])
def test_these_take_no_parameters(action: int) -> None:
    unit = disk(Capabilities(write=True, unmap=True, crypto_erase=True))
    assert play(unit, bytes((0x48, action, 0, 0, 0, 0, 0, 0, 8, 0)), out=bytes(8)).triple == "5/24/00"


def test_reserved_bits_of_sanitize() -> None:
    for byte, value in [(1, 0x42), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]:
        cdb = bytearray.fromhex(BLOCK_ERASE)
        cdb[byte] |= value
        assert play(disk(), bytes(cdb)).triple == "5/24/00"


def test_sanitize_in_progress() -> None:
    # SBC-4 4.11.2: NOT READY, 04/1B SANITIZE IN PROGRESS
    unit = disk()
    steps = started(unit, BLOCK_ERASE)
    next(steps)
    assert play(unit, TEST_UNIT_READY).triple == "2/04/1B"
    assert play(unit, "1b 00 00 00 01 00").triple == "2/04/1B"


def test_sanitize_outlives_a_reset() -> None:
    # SBC-4 4.11.2: a reset of the logical unit does not end it
    unit = disk()
    steps = started(unit, BLOCK_ERASE)
    next(steps)
    unit.reset()
    assert play(unit, TEST_UNIT_READY).triple == "2/04/1B"


def test_a_failed_sanitize_without_a_way_out() -> None:
    # SBC-4 4.11.4: restricted: 3/31/03 SANITIZE COMMAND FAILED until one succeeds
    unit = disk()
    play(unit, BLOCK_ERASE, (WriteZeroes, OSError(errno.EIO, "broken")))
    assert play(unit, TEST_UNIT_READY).triple == "3/31/03"
    assert play(unit, EXIT).triple == "3/31/03"
    assert play(unit, BLOCK_ERASE, (WriteZeroes, None), (Flush, None)).status == 0
    assert play(unit, TEST_UNIT_READY).status == 0


def test_exit_failure_mode() -> None:
    # SBC-4 5.30: AUSE (bit 5) allows EXIT FAILURE MODE after a failure
    unit = disk()
    play(unit, "48 22 0000000000 0000 00", (WriteZeroes, OSError(errno.EIO, "broken")))
    assert play(unit, TEST_UNIT_READY).triple == "3/31/03"
    assert play(unit, EXIT).status == 0
    assert play(unit, TEST_UNIT_READY).status == 0


def test_exit_failure_mode_without_failure() -> None:
    assert play(disk(), EXIT).status == 0


def test_sanitize_in_the_background() -> None:
    unit = disk()
    background: list[Steps] = []
    unit.spawn = background.append
    assert play(unit, "48 82 0000000000 0000 00").status == 0
    assert play(unit, TEST_UNIT_READY).triple == "2/04/1B"
    assert len(list(background[0])) == 2
    assert play(unit, TEST_UNIT_READY).status == 0


def test_nothing_is_erased_on_a_write_protected_unit() -> None:
    unit = disk(Capabilities())
    for cdb in (FORMAT, OVERWRITE.format(5), EXIT):
        assert play(unit, cdb, out=bytes(5)).triple == "7/27/00"


def test_nothing_is_erased_on_a_stopped_unit() -> None:
    unit = disk()
    play(unit, "1b 00 00 00 04 00")
    assert play(unit, FORMAT).triple == "2/04/02"


# READ DEFECT DATA (SBC-4 5.22, 5.23)


def test_no_defects_are_known() -> None:
    # tables 81 and 83: the lists and the format asked for, no list
    assert play(disk(), "37 00 1d 00000000 00ff 00", room=255).data.hex(" ") == "00 1d 00 00"
    outcome = play(disk(), "b7 1d 00000000 000000ff 00 00", room=255)
    assert outcome.data.hex(" ") == "00 1d 00 00 00 00 00 00"
