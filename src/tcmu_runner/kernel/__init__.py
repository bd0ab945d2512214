"""The kernel's side of TCMU devices: configfs, netlink, UIO, sysfs.

Words used here:

- **Backstore**: the configfs directory `core/user_<hba>/<dev>` that an administrator makes; one device.
- **UIO device**: `/dev/uioN`, the backstore's shared memory (ring, data area), event counter and doorbell.
- **Kick**: the 4-byte write to the UIO device after completions.
- **Event**: ADDED, REMOVED or RECONFIG over generic netlink. The administrator's command sleeps in the
  kernel, unkillable, until our **reply** (`*_DONE`): every event is answered once, by its own counterpart.
- **Gate**: the module parameters `block_netlink` and `reset_netlink`, which end old waits and allow no new
  ones while a daemon starts.
- **Adopt**: take over a device that exists already: block, reset the ring, open, map, serve, unblock.

The modules are primitives; supervisor, workers and guardian use them.

alua          target port groups, as LIO keeps them
configfs      a backstore's directory: attributes and actions
genl          generic netlink as bytes
modules       loads the kernel module and checks configfs; the module parameters that end netlink waits
netlink       TCMU's events in, replies out
netlink_port  netlink sockets, and requests over them
paths         where the kernel shows its files
sysfs         attribute files of sysfs and configfs
uio           UIO devices: shared memory, event counter, doorbell; whether commands come to a ring

Layouts and behaviour: Linux `drivers/target/target_core_user.c`, `drivers/uio/uio.c`,
`include/uapi/linux/target_core_user.h`.
"""
