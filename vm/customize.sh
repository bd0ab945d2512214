#!/bin/sh
# Turns a fresh Debian root directory into the guest's. Called by mmdebstrap as `customize.sh ROOT`, with
# $WHEELS the directory of the wheels: tests/ and targetcli/.
set -eu
root=$1
here=$(dirname "$0")

cp -r --no-preserve=ownership "$here/rootfs/." "$root/"
mkdir -p "$root/host/checkout" "$root/host/share" "$root/src" "$root/etc/rtslib-fb-target/pr"
chroot "$root" passwd --quiet --delete root

# Debian's C tcmu-runner stays in the image as the peer, at /usr/bin/tcmu-runner, but nothing may start it unasked:
# two daemons on one kernel race for the same netlink replies. A masked unit also ends its D-Bus activation.
chroot "$root" systemctl --quiet mask tcmu-runner.service
chroot "$root" systemctl --quiet disable rtslib-fb-targetctl.service
# Servers that tests start for themselves.
chroot "$root" systemctl --quiet mask ceph.target ceph-crash.service
# Multipath is for the tests that ask for it: its rule runs a program for each disk that comes.
chroot "$root" systemctl --quiet disable multipathd.service multipathd.socket
ln -s /dev/null "$root/etc/udev/rules.d/60-multipath.rules"
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service systemd-pstore.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service
# One console on both machines: ttyS0 in QEMU, tty0 in user-mode Linux.
chroot "$root" systemctl --quiet mask serial-getty@ttyS0.service
chroot "$root" systemctl --quiet enable vm-agent.service vm-journal.service console-getty.service

# Our daemon's home, with what its tests need, and the targetcli of PyPI. System packages are visible: rtslib is one.
mkdir "$root/tmp/wheels"
cp -r "$WHEELS/." "$root/tmp/wheels/"
for home in tcmu-runner:tests targetcli:targetcli; do
    chroot "$root" python3 -m venv --system-site-packages "/opt/${home%:*}"
    chroot "$root" sh -c "/opt/${home%:*}/bin/pip install --quiet --no-index --no-deps /tmp/wheels/${home#*:}/*.whl"
done
rm -r "$root/tmp/wheels"

if [ -e "$root/vmlinuz" ]; then chroot "$root" update-initramfs -u; fi
