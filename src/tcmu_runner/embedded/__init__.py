"""A LUN without kernel module or root: our own ring behind an iSCSI portal on loopback.

commands    SCSI Command and Data-Out PDUs: from the beginning of a task to its answer
connection  one TCP connection: login phase, then requests
discovery   Text requests: SendTargets, and what may still be negotiated
endpoint    addresses of portals, as people, sockets and initiators have them
initiator   a small initiator, for tests and tools
keepalive   whether an initiator is still there
local       LocalLun: a LUN with its ring in this process
management  task management: aborts and resets
portal      an address that initiators connect to
response    the answer to a command: Data-In, status, sense
router      commands to LUNs that do not exist, and which LUNs do
server      target, LUNs and portals in this process: `with serve(...) as server`
services    what a target lends its units, as the kernel does behind LIO
session     an I_T nexus: the order of its commands, and its tasks
stream      a connection's bytes: PDUs in, responses out in few writes
target      its name, its LUNs, and its sessions
task        one command of a session
watch       what can be seen of a server: engine.observe.view.Watchable
"""

from tcmu_runner.embedded.portal import Portal
from tcmu_runner.embedded.server import Disk, Server, serve
from tcmu_runner.iscsi.chap import Credentials

__all__ = ["Credentials", "Disk", "Portal", "Server", "serve"]
