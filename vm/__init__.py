"""A virtual machine with a real kernel and LIO, for tests, demonstrations and development.

image      the root file system: Debian 12 with its kernel, our test tools, and the C daemon as the peer
machine    one QEMU process that has booted the image
agent      the program in the guest that runs commands for the host (``guest/agent.py``)
session    one command in the guest: its output as it comes, its exit status
share      a directory of the host that the guest has at /host/share; the checkout is /host/checkout there
install    our daemon in the guest's /opt/tcmu-runner: from a wheel, or for development live from the checkout
job        a command with the verdict on it: its exit status, and whether the kernel took harm

It needs neither KVM nor the internet, only Debian's packages: see :mod:`vm.host`.
"""
