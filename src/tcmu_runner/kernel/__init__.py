"""Front end 1, the real kernel: where TCMU devices come from and how their kernel side is worked.

Words used here:

- **Backstore**: the configfs directory `core/user_<hba>/<dev>` an administrator makes; one device of ours.
- **UIO device**: `/dev/uioN`, the backstore's shared memory (ring, data area), event counter and doorbell.
- **Kick**: the 4-byte write to the UIO device after completions; **acknowledge**: the 4-byte read before
  the ring is drained.
- **Event**: ADDED, REMOVED or RECONFIG over generic netlink. The administrator's command sleeps in the
  kernel, unkillable, until our **reply** (`*_DONE`): every event is answered, once, by its own counterpart.
- **Gate**: the module parameters `block_netlink` and `reset_netlink`, which end old waits and allow no new
  ones while we start.
- **Adopt**: take over a device that exists already: block, reset the ring, open, map, serve, unblock.

`genl` is bytes only, `netlink` the sockets, `uio` and `configfs` the device's two faces, `modules` what must
be there before; `fleet` is all devices and what is done to them, `chronicle` what is told of them, `frontend`
lets kernel and fleet speak; `pulse` and `alarm` say when the supervisor looks around, `guardian` and `vigil`
what becomes of commands when it cannot. Layouts and behaviour: Linux `drivers/target/target_core_user.c`,
`drivers/uio/uio.c`, `include/uapi/linux/target_core_user.h`.
"""
