#!/bin/sh
# A SCSI disk of this machine whose bytes a Python handler stores, made by hand through the kernel's configfs.
# It is also the tutorial: each step prints the command that it runs.
#
#   sh demo.sh           makes the disk and uses it; the disk stays
#   sh demo.sh remove    takes away all that it has made
#
# Needs root, tcmu-runner in the PATH and a kernel with LIO (modules target_core_user and tcm_loop).
set -eu

target=/sys/kernel/config/target
backstore=$target/core/user_0/demo                      # the LUN: who stores its bytes, and how many
portal=$target/loopback/naa.5001405000000001/tpgt_1     # the way to it: a SCSI host on this machine
image=/var/tmp/tcmu-demo.img                            # where the handler `file` keeps the bytes
log=/var/tmp/tcmu-demo.log
mountpoint=/mnt/tcmu-demo
here=$(dirname "$0")
size=268435456

say() { printf '\n# %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
# Each write is one request to the kernel, and fails if the kernel (or the daemon) refuses it.
put() {
    printf '$ echo %s > %s\n' "$1" "$2"
    echo "$1" >"$2"
}

start_daemon() {
    say "The daemon. It serves every backstore whose configuration names one of its handlers."
    echo '$ tcmu-runner &'
    setsid tcmu-runner >"$log" 2>&1 &
    daemon=$!
    until grep 'handlers found' "$log"; do
        kill -0 "$daemon" 2>/dev/null
        sleep 0.1
    done
}

make_backstore() {
    say "The backstore: handler 'file', its bytes in $image, $((size >> 20)) MiB."
    run mkdir -p "$backstore"
    put "dev_config=file/$image,dev_size=$size" "$backstore/control"
    put 1 "$backstore/enable"
}

make_disk() {
    say "A SCSI host on this machine (tcm_loop) with the backstore as its LUN 0: the kernel finds a disk there."
    run modprobe tcm_loop
    run mkdir -p "$portal/lun/lun_0"
    put naa.5001405000000002 "$portal/nexus"
    run ln -s "$backstore" "$portal/lun/lun_0/demo"
    udevadm settle
    disk=/dev/$(ls "/sys/bus/scsi/devices/$(cat "$portal/address"):0/block")
    run lsblk --output NAME,VENDOR,MODEL,SIZE,TRAN,HCTL "$disk"
}

write_and_read() {
    say "8 MiB written to it, past the page cache, and read back."
    pattern=$(mktemp)
    head -c 8388608 /dev/urandom >"$pattern"
    run dd if="$pattern" of="$disk" bs=1M oflag=direct status=none
    run dd if="$disk" of="$pattern.back" bs=1M count=8 iflag=direct status=none
    run cmp "$pattern" "$pattern.back"
    rm "$pattern" "$pattern.back"
    echo "the same bytes came back"
}

use_file_system() {
    say "A file system on it; files copied there, and compared after they have been read from the disk anew."
    run mkfs.ext4 -q "$disk"
    run mkdir -p "$mountpoint"
    run mount "$disk" "$mountpoint"
    run cp -r "$here" "$mountpoint/files"
    run umount "$mountpoint"
    run mount "$disk" "$mountpoint"
    run diff -r "$here" "$mountpoint/files"
    run df -h "$mountpoint"
}

remove() {
    umount "$mountpoint" 2>/dev/null || true
    if [ -d "$portal" ]; then
        rm -f "$portal/lun/lun_0/demo"
        rmdir "$portal/lun/lun_0"
        echo NULL >"$portal/nexus"
        rmdir "$portal" "${portal%/*}"
    fi
    if [ -d "$backstore" ]; then rmdir "$backstore" "${backstore%/*}"; fi
    pkill -x tcmu-runner || true
    rm -f "$image" "$log"
}

if [ "${1-}" = remove ]; then
    remove
    exit
fi
if [ -d "$backstore" ]; then
    echo "the disk of an earlier demo is still here; take it away: sh $0 remove" >&2
    exit 1
fi
trap 'test $? = 0 || { say "This did not work. What the daemon said:"; cat "$log"; }' EXIT
start_daemon
make_backstore
make_disk
write_and_read
use_file_system
say "What the daemon said ($log):"
cat "$log"
say "$disk is yours: a disk like any other, mounted at $mountpoint, its bytes in $image."
echo "To take it away: sh $0 remove"
