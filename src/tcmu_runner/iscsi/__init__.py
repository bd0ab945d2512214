"""The iSCSI protocol (RFC 7143) without sockets, clock or threads: bytes in, PDUs out, and back.

addressing  LUN numbers in eight bytes
chap        CHAP as iSCSI uses it
digest      CRC32C of headers and data
framing     a byte stream cut into PDUs, and back
keys        negotiation: each key, when it may come, and what follows
login       the login phase of one connection
pdu         the 48 bytes of each header, both ways
requests    PDUs of an initiator
residual    residual counts
responses   PDUs of a target
text        key=value pairs
transfer    gathering Data-Out, cutting up Data-In
"""
