"""A LUN without kernel module or root: our own ring behind an iSCSI portal on loopback.

The protocol itself is in `iscsi`: bytes in, events out. Here is what reads, acts and writes.

aborting    the end of commands without their result
connection  one TCP connection: has target and units do what the events of the protocol say
discovery   which targets there are, for those that ask
endpoint    addresses of portals, as people, sockets and initiators have them
initiator   a small initiator, for tests and tools
keepalive   whether an initiator is still there
local       LocalLun: a LUN with its ring in this process
management  task management functions: aborts and resets
portal      an address that initiators connect to
router      commands to LUNs that do not exist, and which LUNs do
server      target, LUNs and portals in this process: `with serve(...) as server`
services    what a target lends its units, as the kernel does behind LIO
session     an initiator's session: its nexuses to the units
stream      a connection's transport: bytes of the socket in, bytes of the protocol out
target      its name, its LUNs, and its sessions
task        one command on the ring of its unit
watch       what can be seen of a server: engine.observe.view.Watchable
"""

from tcmu_runner.embedded.portal import Portal
from tcmu_runner.embedded.server import Disk, Server, serve
from tcmu_runner.iscsi.chap import Credentials

__all__ = ["Credentials", "Disk", "Portal", "Server", "serve"]
