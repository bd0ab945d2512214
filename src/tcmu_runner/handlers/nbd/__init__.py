"""`nbd`: a disk that an NBD server exports; the protocol is of the NetworkBlockDevice project (doc/proto.md).

export      a disk that a server has by a name.
negotiation what client and server agree on before the first request: export, TLS, replies, contexts.
request     one command to the server, known by its cookie until it is answered.
connection  a socket after the negotiation, with the requests that were sent over it.
link        connections to one export over the time: made again when they are lost, and requests sent again.
unflushed   writes that were answered, and that the server may still forget when it dies.
"""

from tcmu_runner.handlers.nbd.handler import NbdHandler, NbdOptions

__all__ = ["NbdHandler", "NbdOptions"]
