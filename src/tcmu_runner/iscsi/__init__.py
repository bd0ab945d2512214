"""The iSCSI protocol (RFC 7143) without sockets, clock or threads: bytes in, PDUs out, and back.

addressing         LUN numbers in eight bytes
chap               CHAP as iSCSI uses it
digest             CRC32C of headers and data
framing            a byte stream cut into PDUs, and back
inbound            requests in their turn: answered here, or an event
keys               negotiation: each key, when it may come, and what follows
login              the login phase of one connection
outbound           the sending half of a target's connection: numbers, PDUs, room for Data-In
pdu                the 48 bytes of each header, both ways
pending            a SCSI command between its PDU and its answer
requests           PDUs of an initiator
residual           residual counts
responses          PDUs of a target
scsi_response      the answer to a SCSI command: Data-In, status, sense
target_connection  a target's connection: bytes in, events out; answers in, bytes out
target_session     what the connections of a session share: the order of requests, commands
text               key=value pairs
text_exchange      text requests of full feature phase
transfer           gathering Data-Out, cutting up Data-In
"""
