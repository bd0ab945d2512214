from pathlib import Path

import pytest
from support.kit import KIT_SIZE

from tcmu_runner import ConfigError
from tcmu_runner.testing.conformance import SIZE
from tcmu_runner.testing.stacked import check_filter, open_stack

MIB = 1 << 20


@pytest.mark.parametrize("config", ["ram/", "file/{}/disk.img"])
def test_it_keeps_the_contract(config: str, tmp_path: Path) -> None:
    report = check_filter(
        config.format(tmp_path), ("offset", {"offset": "1M"}), persistent=config != "ram/", size=KIT_SIZE
    )
    assert report.ok, str(report)


def test_the_storage_is_larger_and_its_first_bytes_stay(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    stack = open_stack(f"file/{image}", ("offset", {"offset": MIB}))
    stack.write([memoryview(bytearray(b"\x5a" * 512))], 0)
    first = next(iter(stack.extents(0, MIB)))
    assert (first.offset, first.mapped) == (0, True)
    stack.resize(SIZE + 512)
    stack.close()
    assert image.stat().st_size == SIZE + MIB + 512
    with image.open("rb") as file:
        assert file.read(MIB) == bytes(MIB)
        assert file.read(512) == b"\x5a" * 512


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        ({}, "'offset' is missing"),
        ({"offset": 1000}, "no multiple of the block size 512"),
        ({"offset": -512}, "from 0"),
        ({"offset": True}, "whole number"),
        ({"offset": "one"}, "for example 10G"),
        ({"at": 512}, "no option 'at'; there are: offset"),
    ],
)
def test_what_is_wrong_is_said(table: dict[str, object], remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        open_stack("ram/", ("offset", table))
