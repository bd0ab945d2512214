import errno
from pathlib import Path

import pytest

from tcmu_runner.kernel.modules import ModuleError, NetlinkGate, load_target_core_user
from tcmu_runner.kernel.paths import Paths
from tcmu_runner.kernel.sysfs import KernelFileError

from .tree import load_module


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
    loaded = f"{paths.module}/$1/parameters"
    modprobe = script(
        tmp_path, f'mkdir -p "{loaded}" "{paths.target}"; touch "{loaded}/global_max_data_area_mb"'
    )
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


def test_a_kernel_that_is_too_old(paths: Paths, parameters: Path) -> None:
    (parameters / "global_max_data_area_mb").unlink()
    with pytest.raises(ModuleError, match=r"tcmu-runner needs Linux 4\.18 or newer"):
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
