"""`qcow` and `qemu`: disks in image files of any format that QEMU knows, each served by its own daemon.

format: how an image file is laid out: qcow2, vmdk, ..., raw.
node: a file or an image that the daemon has open; an image's backing files are nodes, too.

daemon   a qemu-storage-daemon of our own; blocking
handler  `qcow` and `qemu`
image    formats of image files, and the options that QEMU gets for one
monitor  QMP; blocking
"""

from tcmu_runner.handlers.qemu.handler import ImageOptions, QcowHandler, QemuHandler

__all__ = ["ImageOptions", "QcowHandler", "QemuHandler"]
