import errno
import os
from pathlib import Path

import pytest

from tcmu_runner.kernel.configfs import Backstore, ConfigfsError, ResetStatus
from tcmu_runner.kernel.paths import Paths

from .tree import SERIAL, make_backstore


@pytest.fixture
def directory(paths: Paths) -> Path:
    return make_backstore(paths)


@pytest.fixture
def backstore(directory: Path, paths: Paths) -> Backstore:
    return Backstore(0, "vol0", paths)


def test_what_the_administrator_set(backstore: Backstore) -> None:
    assert backstore.name == "user_0/vol0"
    assert backstore.block_size() == 512
    assert backstore.size() == 1 << 30
    assert backstore.max_sectors() == 0  # the kernel's default, 128, is in the tree
    assert backstore.data_area() == 0  # as before 4.16
    assert backstore.serial() == SERIAL
    assert backstore.vendor_id() == "LIO-ORG"
    assert (backstore.product_id(), backstore.revision()) == ("", "")  # until somebody writes them
    assert backstore.company_id() == 0x001405
    assert backstore.write_cache() is False
    assert backstore.command_timeout() == 30
    assert backstore.alua_support() is True
    assert backstore.answers_reservations() is True
    assert backstore.device_id() == 5


def test_advice_on_the_longest_transfer(backstore: Backstore, directory: Path) -> None:
    (directory / "attrib/hw_max_sectors").write_text("256\n")
    assert backstore.max_sectors() == 256


def test_data_area(backstore: Backstore, directory: Path) -> None:
    (directory / "attrib/max_data_area_mb").write_text("1024\n")
    assert backstore.data_area() == 1 << 30


def test_identity_that_was_set(backstore: Backstore, directory: Path) -> None:
    values = {"vendor_id": "ACME", "product_id": "Big Disk", "revision": "2.0", "company_id": "0x00abcd"}
    for name, text in values.items():
        (directory / "wwn" / name).write_text(text + "\n")
    assert (backstore.vendor_id(), backstore.product_id(), backstore.revision()) == (
        "ACME",
        "Big Disk",
        "2.0",
    )
    assert backstore.company_id() == 0x00ABCD


def test_serial_that_was_not_set(backstore: Backstore, directory: Path) -> None:
    (directory / "wwn/vpd_unit_serial").write_text("T10 VPD Unit Serial Number: \n")
    assert backstore.serial() == ""


@pytest.mark.parametrize(
    ("emulate_pr", "pgr_support", "kernel"), [(1, 1, True), (0, 1, False), (0, 0, False), (1, 0, False)]
)
def test_who_answers_reservations(
    backstore: Backstore, directory: Path, emulate_pr: int, pgr_support: int, kernel: bool
) -> None:
    # passthrough_parse_cdb: emulate_pr=0 rejects them in any case, pgr_support=0 forwards them
    (directory / "attrib/emulate_pr").write_text(f"{emulate_pr}\n")
    (directory / "attrib/pgr_support").write_text(f"{pgr_support}\n")
    assert backstore.answers_reservations() is kernel


def test_kernels_that_lack_files(backstore: Backstore, directory: Path) -> None:
    for name in (
        "attrib/cmd_time_out", "attrib/emulate_write_cache", "attrib/alua_support", "attrib/emulate_pr",
        "attrib/pgr_support", "wwn/company_id", "wwn/vendor_id", "wwn/product_id", "wwn/revision",
    ):  # fmt: skip
        (directory / name).unlink()
    assert backstore.command_timeout() == 30
    assert backstore.write_cache() is False
    assert backstore.alua_support() is True
    assert backstore.answers_reservations() is True
    assert backstore.company_id() == 0x001405
    assert (backstore.vendor_id(), backstore.product_id(), backstore.revision()) == ("", "", "")


@pytest.mark.parametrize("config", ["file//x", "file//Size: 1 /x Size: 2", ""])
def test_size_of_kernels_before_4_13_is_behind_any_config(
    backstore: Backstore, directory: Path, config: str
) -> None:
    (directory / "attrib/dev_size").unlink()
    (directory / "info").write_text(
        f"Status: ACTIVATED SectorSize: 512\n        Config: {config} Size: 4096\n"
    )
    assert backstore.size() == 4096


def test_values_that_are_no_number(backstore: Backstore, directory: Path) -> None:
    (directory / "attrib/hw_block_size").write_text("many\n")
    with pytest.raises(
        ConfigfsError, match=r"user_0/vol0: cannot read attrib/hw_block_size: 'many' is no num"
    ):
        backstore.block_size()


def test_removed_backstore_is_not_taken_for_an_old_kernel(paths: Paths) -> None:
    gone = Backstore(3, "gone", paths)
    for access in (gone.write_cache, gone.size, gone.serial, gone.block):
        with pytest.raises(
            ConfigfsError, match=r"user_3/gone: cannot .* the backstore was removed"
        ) as caught:
            access()
        assert caught.value.errno == errno.ENOENT


def test_actions_store_what_the_kernel_reads(backstore: Backstore, directory: Path) -> None:
    stored = []
    for act in (
        backstore.block, backstore.unblock, backstore.reset_ring,
        lambda: backstore.reset_ring(ResetStatus.NOT_READY), lambda: backstore.reset_ring(1),
    ):  # fmt: skip
        act()
        stored.append([(directory / f"action/{name}").read_text() for name in ("block_dev", "reset_ring")])
    assert stored == [["1", ""], ["0", ""], ["0", "1"], ["0", "2"], ["0", "1"]]


def test_to_quiesce_is_to_block_before_the_ring_is_emptied(backstore: Backstore, directory: Path) -> None:
    (directory / "action/reset_ring").unlink()
    with pytest.raises(ConfigfsError, match="reset_ring"):
        backstore.quiesce()
    assert (directory / "action/block_dev").read_text() == "1"


def test_refused_action_has_the_kernels_errno(backstore: Backstore, directory: Path) -> None:
    (directory / "action/block_dev").unlink()
    (directory / "action/block_dev").symlink_to("/dev/full")
    with pytest.raises(
        ConfigfsError, match="user_0/vol0: cannot write '1' to action/block_dev: No space"
    ) as caught:
        backstore.block()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(directory / "action/block_dev")


@pytest.mark.parametrize(("code", "says"), [(errno.EINVAL, "enabled device"), (errno.EPERM, "run as root")])
def test_remedies(backstore: Backstore, monkeypatch: pytest.MonkeyPatch, code: int, says: str) -> None:
    def refuse(_fd: int, _data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(ConfigfsError, match=says):
        backstore.reset_ring()


def test_control_is_one_store_of_all_keys(backstore: Backstore, directory: Path) -> None:
    backstore.set_control(dev_config="file//y z", dev_size=1 << 40, hw_block_size=4096)
    assert (
        directory / "control"
    ).read_text() == "dev_config=file//y z,dev_size=1099511627776,hw_block_size=4096"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("dev_sise", 512, "ignores the control key 'dev_sise'; it knows cmd_ring_size_mb, data_pages"),
        ("dev_config", "file//a,b", "comma"),
        ("dev_config", "file//a\n", "newline"),
        ("dev_config", "\u00e9" * 128, "longer than 255 bytes"),
        ("data_pages_per_blk", 0, "divides"),
        ("data_pages_per_blk", "0x0", "divides"),
    ],
)
def test_control_the_kernel_would_misread(
    backstore: Backstore, directory: Path, key: str, value: int | str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        backstore.set_control(**{key: value})
    assert (directory / "control").read_text() == ""


def test_config_of_255_bytes_is_taken(backstore: Backstore, directory: Path) -> None:
    backstore.set_control(dev_config="x" * 255)
    assert (directory / "control").read_text() == "dev_config=" + "x" * 255
