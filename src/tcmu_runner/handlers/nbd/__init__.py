"""`nbd`: a disk that an NBD server exports, by the NetworkBlockDevice project's protocol (doc/proto.md).

export: a disk that a server offers under a name. negotiation: client and server agree on export, TLS, replies
and contexts before the first request.

connection   one connection in its transmission phase; on the event loop
dial         makes a connection: socket, negotiation, TLS; blocking
handler      the handler
link         keeps connections to an export, and requests while there is none; on the event loop
negotiation  the negotiation, without I/O
replies      decodes replies, without I/O
request      requests
unflushed    writes that are answered and not flushed
wire         numbers and layouts, by the names of proto.md
"""

from tcmu_runner.handlers.nbd.handler import NbdHandler, NbdOptions

__all__ = ["NbdHandler", "NbdOptions"]
