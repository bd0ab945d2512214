"""The handlers that come with tcmu-runner, a file or a package each.

backing     the file or block device of a disk
claims      locks, so that one LUN at a time has a file
file        `file`: in a file or on a block device
glfs        `glfs`: in a file of a Gluster volume
libgfapi    Gluster's client library
librbd      Ceph's client libraries
null        `null`: stores nothing
ram         `ram`: in memory
rbd         `rbd`: in a Ceph cluster
rbd_holder  which process of this host last had an image open
rbd_image   an open image

nbd/        `nbd`: on an NBD server
qemu/       `qcow` and `qemu`: in image files, by a daemon of QEMU for each
zstd/       `zstd`: compressed and thin, in one SQLite database
"""
