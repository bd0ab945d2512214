#!/bin/sh
# The first process of the demonstration: what systemd and an installation do elsewhere, then the demonstration, then
# a shell on a terminal. The kernel passes VM_MODULES, VM_CHECKOUT, VM_OUT, VM_PYCACHE (directories of the host) and VM_SHELL.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=${TERM:-linux} LANG=C.UTF-8
share() {
    # Linux 6.14 and later take hostfs=PATH; earlier ones take the bare path.
    mount -t hostfs -o "hostfs=$1$3" hostfs "$2" 2>/dev/null || mount -t hostfs -o "$1$3" hostfs "$2"
}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /run /tmp /var/tmp /var/log /var/lib /mnt /usr/local; do mount -t tmpfs tmpfs $directory; done
share "$VM_MODULES" /usr/lib/modules ,ro
share "$VM_CHECKOUT" /host/checkout ,ro
share "$VM_OUT" /host/out
share "$VM_PYCACHE" /host/pycache
export PYTHONPYCACHEPREFIX=/host/pycache
mkdir -p /run/lock /usr/local/bin /usr/local/lib
echo tcmu-demo >/proc/sys/kernel/hostname
ip link set lo up 2>/dev/null
modprobe -a configfs target_core_user tcm_loop sd_mod
mount -t configfs configfs /sys/kernel/config
/lib/systemd/systemd-udevd --daemon 2>/dev/null
cp -r /host/out/site/. /usr/local/lib/
printf '#!/bin/sh\nPYTHONPATH=/host/checkout/src:/usr/local/lib exec python3 -m tcmu_runner.cli.main "$@"\n' >/usr/local/bin/tcmu-runner
chmod 755 /usr/local/bin/tcmu-runner
cd /host/checkout
stty -echo 2>/dev/null
sh vm/demo.sh
status=$?
stty echo 2>/dev/null
echo $status >/host/out/status
if [ $status = 0 ] && [ -n "$VM_SHELL" ]; then
    printf '\nThe disk is in a machine of its own; here is its shell. exit (or Ctrl-]) ends the machine.\n'
    setsid -c bash -i
fi
python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)'
