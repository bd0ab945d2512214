#!/bin/sh
# A SCSI disk whose bytes the handler in ram.py stores, over iSCSI on this machine: no kernel module, no root.
# Each step prints the command that it runs.
#
#   sh demo.sh           makes the disk, uses it, and keeps it as long as you look at it
#
# Needs tcmu-runner in the PATH, qemu-io with QEMU's iSCSI driver, and libiscsi's tools.
set -eu
cd "$(dirname "$0")"

say() { printf '\n# %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

# Run by `tcmu-runner try`, which has put the disk's address in $uri.
use() {
    portal=${uri#iscsi://} portal=${portal%%/*} name=${uri%/*} name=${name##*/}
    say "An initiator finds it."
    run iscsi-ls -s "iscsi://$portal"
    say "Another one writes 8 MiB and reads them back; a second look finds the same."
    run qemu-io -f raw -c 'write -P 0x5a 16M 8M' -c flush -c 'read -P 0x5a 16M 8M' "$uri"
    run qemu-io -f raw -r -c 'read -P 0x5a 16M 8M' -c 'read -P 0 0 16M' "$uri"
    say "The disk is yours as long as this runs. From another terminal:"
    echo "  iscsi-inq $uri"
    echo "  qemu-img convert -O raw disk.img $uri"
    echo "  iscsiadm -m discovery -t sendtargets -p $portal && iscsiadm -m node -T $name -p $portal --login"
    echo "Your own handler: copy examples/ram.py, change what read and write do, and"
    echo "  .venv/bin/tcmu-runner try ./mine.py --size 1G"
    if [ -t 0 ]; then
        printf '\nPress Enter to end it. '
        read -r _
    fi
}

if [ "${1-}" = use ]; then
    use
    exit
fi
say "A disk of 64 MiB, its bytes in the memory of a Python class (examples/ram.py)."
run tcmu-runner try ram.py --size 64M --run 'sh demo.sh use'
