import dataclasses
import errno
from pathlib import Path

import pytest

from tcmu_runner.kernel.attribute import KernelFileError
from tcmu_runner.kernel.modules import Features, ModuleError, NetlinkGate, load_target_core_user, probe
from tcmu_runner.kernel.paths import Paths

from .tree import load_module, make_backstore


@pytest.fixture
def parameters(paths: Paths) -> Path:
    return load_module(paths)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "modprobe"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_loaded_module_needs_no_modprobe(paths: Paths, parameters: Path) -> None:
    load_target_core_user(paths, "/no/such/modprobe")


def test_module_is_loaded(paths: Paths, tmp_path: Path) -> None:
    modprobe = script(tmp_path, f'mkdir -p "{paths.module}/$1" "{paths.target}"')
    load_target_core_user(paths, modprobe)
    assert (paths.module / "target_core_user").is_dir()


def test_module_that_cannot_be_loaded(paths: Paths, tmp_path: Path) -> None:
    modprobe = script(tmp_path, "echo 'FATAL: Module target_core_user not found' >&2; exit 1")
    with pytest.raises(ModuleError, match=r"FATAL: Module .* not found; as root run: modprobe") as caught:
        load_target_core_user(paths, modprobe)
    assert caught.value.errno == errno.ENOSYS


def test_module_that_does_not_appear(paths: Paths) -> None:
    with pytest.raises(ModuleError, match="succeeded, but"):
        load_target_core_user(paths, "true")


def test_no_modprobe(paths: Paths) -> None:
    with pytest.raises(ModuleError, match="No such file or directory; as root run"):
        load_target_core_user(paths, "/no/such/modprobe")


def test_configfs_that_is_not_mounted(paths: Paths, parameters: Path) -> None:
    paths.target.rmdir()
    with pytest.raises(ModuleError, match=f"mount -t configfs none {paths.configfs}"):
        load_target_core_user(paths)


def test_gate_ends_waits_and_opens_again(paths: Paths, parameters: Path) -> None:
    with NetlinkGate(paths):
        assert (parameters / "block_netlink").read_text() == "1"
        assert (parameters / "reset_netlink").read_text() == "1"
    assert (parameters / "block_netlink").read_text() == "0"


def test_gate_opens_again_whatever_happens_inside(paths: Paths, parameters: Path) -> None:
    with pytest.raises(RuntimeError), NetlinkGate(paths):
        raise RuntimeError
    assert (parameters / "block_netlink").read_text() == "0"


def test_gate_that_cannot_reset_does_not_stay_shut(paths: Paths, parameters: Path) -> None:
    (parameters / "reset_netlink").unlink()
    (parameters / "reset_netlink").symlink_to("/dev/full")
    with (
        pytest.raises(KernelFileError, match="cannot write 1 to reset_netlink: No space"),
        NetlinkGate(paths),
    ):
        pytest.fail("entered")
    assert (parameters / "block_netlink").read_text() == "0"


def test_old_kernels_have_no_gate(paths: Paths, parameters: Path) -> None:
    for name in ("block_netlink", "reset_netlink"):
        (parameters / name).unlink()
    with NetlinkGate(paths):
        pass
    assert [path.name for path in parameters.iterdir()] == ["global_max_data_area_mb"]


def test_features_of_6_1(paths: Paths, parameters: Path) -> None:
    make_backstore(paths)
    found = dataclasses.asdict(probe(0, "vol0", paths))
    assert [name for name, there in found.items() if not there] == ["submit_type"]  # since 6.7


@pytest.mark.parametrize(
    ("file", "feature"),
    [
        ("action/reset_ring", "reset_ring"),
        ("action/free_kept_buf", "kept_buffers"),
        ("attrib/tmr_notification", "task_management"),
        ("attrib/cmd_ring_size_mb", "ring_size"),
    ],
)
def test_features_are_told_one_by_one(paths: Paths, parameters: Path, file: str, feature: str) -> None:
    backstore = make_backstore(paths)
    before = probe(0, "vol0", paths)
    (backstore / file).unlink()
    assert probe(0, "vol0", paths) == dataclasses.replace(before, **{feature: False})


def test_features_where_there_is_nothing(paths: Paths) -> None:
    assert probe(0, "vol0", paths) == Features(*[False] * len(dataclasses.fields(Features)))
