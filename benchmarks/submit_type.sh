#!/bin/sh
# What the attributes submit_type (Linux 6.12 and later) and complete_type (7.2) of a backstore do to a LUN of ours:
# 4 KiB random reads of ram/ through tcm_loop, each setting three times in turn. Run it in a machine of 7.2:
#   ./dev vm exec -- sh benchmarks/submit_type.sh
# 0: as the fabric wants it; 1: at once, on the thread that has the command; 2: handed to a work queue.
set -e
modprobe -a target_core_user tcm_loop
tcmu-runner >/tmp/submit_type.log 2>&1 &
until grep -q "handlers found" /tmp/submit_type.log; do sleep 0.1; done
store=/sys/kernel/config/target/core/user_0/types
group=/sys/kernel/config/target/loopback/naa.5001405000000aaa/tpgt_1
mkdir -p "$store" "$group/lun/lun_0"
echo dev_config=ram/,dev_size=67108864 >"$store/control"
echo 1 >"$store/enable"
echo naa.5001405000000aab >"$group/nexus"
ln -s "$store" "$group/lun/lun_0/types"
disk=
until [ -n "$disk" ]; do disk=$(ls /sys/bus/scsi/devices/"$(cat "$group/address")":0/block 2>/dev/null || true); done

iops() {
    fio --name=r --filename=/dev/"$disk" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth="$1" \
        --time_based --runtime=3 --output-format=json | sed -n 's/.*"iops" : \([0-9.]*\),.*/\1/p' | head -1
}

for round in 1 2 3; do
    for setting in 0/0 1/0 2/0 0/1 0/2 1/1 2/2; do
        echo "${setting%/*}" >"$store/attrib/submit_type"
        if [ -e "$store/attrib/complete_type" ]; then
            echo "${setting#*/}" >"$store/attrib/complete_type" || continue
        fi
        echo "round $round submit/complete $setting: qd1 $(iops 1) qd32 $(iops 32)"
    done
done
rm "$group/lun/lun_0/types"
rmdir "$group/lun/lun_0" "$group" "${group%/*}" "$store"
kill %1
