#!/bin/sh
# Turns a fresh Debian root directory into the guest's. Called by mmdebstrap as `customize.sh ROOT`, with
# $WHEELS the directory of the test tools' wheels.
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
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service systemd-pstore.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service
chroot "$root" systemctl --quiet enable vm-agent.service vm-journal.service

# Our daemon's home, with what its tests need. System packages are visible: rtslib is one.
chroot "$root" python3 -m venv --system-site-packages /opt/tcmu-runner
mkdir "$root/tmp/wheels"
cp "$WHEELS"/*.whl "$root/tmp/wheels/"
chroot "$root" sh -c '/opt/tcmu-runner/bin/pip install --quiet --no-index --no-deps /tmp/wheels/*.whl'
rm -r "$root/tmp/wheels"

chroot "$root" update-initramfs -u
