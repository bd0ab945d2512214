"""A LUN without kernel module or root: our own ring behind an iSCSI portal on loopback.

portal      an address that initiators connect to, and the target behind it.
target      an iSCSI name with its LUNs.
session     one initiator's log-in to a target, over one or more connections: an I_T nexus.
connection  one TCP connection: login phase, then full feature phase.
PDU         what is sent over it: a header of 48 bytes, and data.
task        one SCSI command under way, known by its tag.
"""

from tcmu_runner.embedded.chap import Credentials
from tcmu_runner.embedded.portal import Portal
from tcmu_runner.embedded.server import Disk, Server, serve

__all__ = ["Credentials", "Disk", "Portal", "Server", "serve"]
