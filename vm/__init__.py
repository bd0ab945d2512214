"""Machines with a real kernel and LIO, for tests, demonstrations and development.

kinds      the machines by name: a release of Debian, a kernel, and what carries it: user-mode Linux or QEMU
image      the root file system of a release: our test tools, and the C daemon as the peer
kernels    user-mode Linux of each suite, as programs of the host
uml, qemu  the command line of each sort; ``warden`` is the parent of a user-mode Linux
machine    one machine that has booted
rack       several machines on one network
agent      the program in the guest that runs commands for the host (``guest/agent.py``)
session    one command in the guest: its output as it comes, its exit status
share      a directory of the host that the guest has at /host/share; the checkout is /host/checkout there
install    our daemon in the guest's /opt/tcmu-runner: from a wheel, or for development live from the checkout
job        a command with the verdict on it: its exit status, and whether the kernel took harm
pocket     a small root that any user can make, for the demonstration (``demonstration``)

They need neither KVM nor the internet, only Debian's packages (``apt``): see :mod:`vm.host`.
"""
