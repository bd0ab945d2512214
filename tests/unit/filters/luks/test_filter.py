from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from handlers.model import machine, pieces
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError, Device, ScsiError
from tcmu_runner.filters.luks.filter import Luks
from tcmu_runner.handler.filter import Layer
from tcmu_runner.iov import gather
from tcmu_runner.scsi.command import Command
from tcmu_runner.scsi.operations import HandleCommand, WriteSame
from tcmu_runner.scsi.unit import Capabilities
from tcmu_runner.testing.stacked import Stacked, check_filter, open_stack

from .volumes import HEADER, SIZE, Place, read, write


@pytest.mark.parametrize("config", ["ram/", "file/{}/image"])
@pytest.mark.parametrize("discard", [False, True])
def test_it_keeps_the_contract(config: str, discard: bool, tmp_path: Path) -> None:
    options = Place(tmp_path).options(create=True, discard=discard)
    report = check_filter(
        config.format(tmp_path), ("luks", options), persistent=config != "ram/", size=KIT_SIZE
    )
    assert report.ok, str(report)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_beside_a_bytearray(tmp_path: Path, block_size: int) -> None:
    options = Place(tmp_path).options(create=True)

    def open_disk(size: int) -> Stacked:
        disk = open_stack("ram/", ("luks", options), size=size, block_size=block_size)
        write(disk, 0, bytes(size))  # a new volume reads as noise
        return disk

    quick = settings(max_examples=20, stateful_step_count=20)
    run_state_machine_as_test(machine(open_disk, block_size, forgets=False), settings=quick)


def test_buffers_that_cut_sectors_in_two(tmp_path: Path) -> None:
    disk = Place(tmp_path).create()
    data = bytes(range(256)) * 16
    disk.write(pieces(data, [1, 700, 2049]), 512)
    assert read(disk, 512, len(data)) == data
    into = pieces(bytes(len(data)), [3, 511, 513])
    disk.read(into, 512)
    assert gather(into) == data
    disk.close()


def test_what_is_written_stays_as_it_was_in_its_buffers(tmp_path: Path) -> None:
    """A worker that dies meanwhile leaves the command to another one."""
    disk = Place(tmp_path).create()
    data = [memoryview(bytearray(b"plain".ljust(512)))]
    disk.write(data, 0)
    assert gather(data) == b"plain".ljust(512)
    disk.close()


def test_nothing_plain_is_stored(tmp_path: Path) -> None:
    place = Place(tmp_path)
    disk = place.create()
    write(disk, 0, b"plain text, again and again. " * 512 * 4)
    disk.flush()
    disk.close()
    assert b"plain text" not in place.image.read_bytes()
    assert place.key.read_bytes() not in place.image.read_bytes()


def test_what_it_can_do_is_what_encrypted_bytes_can(tmp_path: Path) -> None:
    """Zeroes, patterns and comparisons have to go through the key; unmapped blocks read as noise."""
    everything = Capabilities(*[True] * 10)
    for options, discards in (({}, False), ({"discard": True}, True)):
        disk = Place(tmp_path).create(**options)
        (luks,) = disk.stack.filters
        assert luks.capabilities(everything) == Capabilities(
            write=True, flush=True, unmap=discards, extents=True, space=True, crypto_erase=True
        )
        assert not luks.capabilities(Capabilities()).crypto_erase
        disk.close()


def test_what_would_go_round_it_is_refused(tmp_path: Path) -> None:
    disk = Place(tmp_path).create()
    with pytest.raises(ScsiError):
        disk.perform(WriteSame(0, 512, bytes(512)))
    disk.close()


def test_a_command_is_not_handed_to_a_raw_handler(tmp_path: Path) -> None:
    disk = Place(tmp_path).create()
    (luks,) = disk.stack.filters
    command = HandleCommand(cast(Command, object()))
    assert list(luks.handle(command)) == []
    assert not command.handled
    disk.close()


def test_the_header_is_between_the_size_of_the_lun_and_that_of_the_storage(tmp_path: Path) -> None:
    options = Luks.parse(Place(tmp_path).options())
    assert Luks.size_below(SIZE, options) == SIZE + HEADER
    assert Luks.size_above(SIZE + HEADER, options) == SIZE


def test_large_sectors_need_large_blocks(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.create(block_size=4096).close()
    before = place.state()
    with pytest.raises(
        ConfigError, match="sectors of 4096 bytes, the LUN blocks of 512: set hw_block_size=4096"
    ):
        place.open(block_size=512)
    assert place.state() == before
    place.open(block_size=4096).close()


def test_small_sectors_go_with_large_blocks(tmp_path: Path) -> None:
    place = Place(tmp_path)
    disk = place.create(block_size=512)
    write(disk, 4096, b"kept".ljust(4096))
    disk.close()
    disk = place.open(block_size=4096)
    assert read(disk, 4096, 4096) == b"kept".ljust(4096)
    disk.close()


def test_data_that_begins_elsewhere_is_said(tmp_path: Path) -> None:
    place = Place(tmp_path).created()
    before = place.state()
    place.header, right = place.header // 2, place.header
    with pytest.raises(ConfigError, match=f"begins at {right}, not {right // 2}: write header = {right}"):
        place.open()
    assert place.state() == before


def test_several_stacks_in_one_process(tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    disks: list[Stacked] = []
    for number, directory in enumerate(places):
        directory.mkdir()
        disks.append(Place(directory).create())
        write(disks[-1], 0, bytes([number]) * 512)
    assert [read(disk, 0, 512)[0] for disk in disks] == [0, 1]
    for disk in disks:
        disk.close()


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        ({}, "Give one of key_file, credential and keyring"),
        ({"key": "secret"}, "no option 'key'"),
        ({"key_file": "/k", "kdf": "md5"}, "there are argon2id, argon2i, pbkdf2"),
        ({"key_file": "/k", "header": 1000}, "write whole sectors"),
        ({"key_file": "/k", "create": 1}, "write true or false"),
    ],
)
def test_options_that_make_no_sense_are_refused(table: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        Layer.parse("luks", table)


def test_closing_wipes_the_key(tmp_path: Path) -> None:
    disk = Place(tmp_path).create()
    (luks,) = disk.stack.filters
    assert isinstance(luks, Luks)
    disk.close()
    with pytest.raises(ValueError, match="released"):
        bytes(luks._key.view)


def test_a_filter_that_never_started_can_be_closed(tmp_path: Path) -> None:
    options = Luks.parse(Place(tmp_path).options())
    Luks.open(Device("conformance", 1 << 20), options).close()
