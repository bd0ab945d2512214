"""`nbd`: a disk that an NBD server exports; the protocol is of the NetworkBlockDevice project (doc/proto.md).

export      a disk that a server has by a name.
negotiation what client and server agree on before the first request: export, TLS, replies, contexts.

connection   one connection in its transmission phase; on the event loop
dial         makes a connection: socket, negotiation, TLS; blocking
handler      the handler
link         connections to an export over the time; on the event loop
negotiation  the negotiation, without a socket
replies      replies from bytes, without a socket
request      requests
unflushed    writes that are answered and not flushed
wire         numbers and layouts, by the names of proto.md
"""

from tcmu_runner.handlers.nbd.handler import NbdHandler, NbdOptions

__all__ = ["NbdHandler", "NbdOptions"]
