"""What the tests in the virtual machine share. All of it works on a real kernel, as root, and changes it.

deadline   actions and commands that the kernel may put to sleep for ever, run so that the test goes on
configfs   backstores, made as an administrator makes them by hand
loopback   their LUNs as disks of this machine, through tcm_loop
iscsi      their LUNs over the kernel's iSCSI target, and open-iscsi's initiators
daemon     a tcmu-runner that the test starts, stops and kills, and what it logs
handlers   tests/vm/handlers, where the daemon loads them from
cleanup    the way back from whatever a test has made
"""
