"""A directory tree that imitates the kernel's files, as Linux 6.1 shows them, for `Paths.under(root)`."""

from pathlib import Path

from tcmu_runner.kernel.paths import Paths

SERIAL = "11111111-2222-3333-4444-555555555555"

BACKSTORE = {
    "info": "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 128\n"
    "        Config: file//x Size: 1073741824 MaxDataAreaMB: 1024 DataPagesPerBlk: 1 CmdRingSizeMB: 8\n",
    "control": "",
    "enable": "1\n",
    "action/block_dev": "unblocked\n",
    "action/reset_ring": "",
    "action/free_kept_buf": "",
    "attrib/alua_support": "1\n",
    "attrib/cmd_ring_size_mb": "8\n",
    "attrib/cmd_time_out": "30\n",
    "attrib/data_pages_per_blk": "1\n",
    "attrib/dev_config": "file//x\n",
    "attrib/dev_size": "1073741824\n",
    "attrib/emulate_pr": "1\n",
    "attrib/emulate_write_cache": "0\n",
    "attrib/hw_block_size": "512\n",
    "attrib/hw_max_sectors": "128\n",
    "attrib/nl_reply_supported": "1\n",
    "attrib/pgr_support": "1\n",
    "attrib/qfull_time_out": "-1\n",
    "attrib/tmr_notification": "0\n",
    "statistics/scsi_dev/indx": "5\n",
    "wwn/company_id": "0x001405\n",
    "wwn/product_id": "\n",
    "wwn/revision": "\n",
    "wwn/vendor_id": "LIO-ORG\n",
    "wwn/vpd_unit_serial": f"T10 VPD Unit Serial Number: {SERIAL}\n",
}

PARAMETERS = {"block_netlink": "unblocked\n", "reset_netlink": "", "global_max_data_area_mb": "2048\n"}


def write_all(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def load_module(paths: Paths) -> Path:
    paths.target.mkdir(parents=True, exist_ok=True)
    return write_all(paths.module / "target_core_user/parameters", PARAMETERS)


def make_backstore(paths: Paths, hba: int = 0, device: str = "vol0") -> Path:
    return write_all(paths.target / "core" / f"user_{hba}" / device, BACKSTORE)


def make_uio(
    paths: Paths, minor: int = 0, name: bytes = b"tcm-user/0/vol0/file//x", size: int = 0x40800000
) -> Path:
    """The device's sysfs directory; an ordinary file stands for the node, which has device number 0:0."""
    directory = paths.uio / f"uio{minor}"
    write_all(directory, {"dev": "0:0\n", "event": "0\n", "version": "2\n"})
    write_all(directory / "maps/map0", {"size": f"{size:#018x}\n", "offset": "0x0\n"})
    (directory / "name").write_bytes(name + b"\n")
    paths.dev.mkdir(parents=True, exist_ok=True)
    (paths.dev / f"uio{minor}").write_bytes(b"")
    return directory
