"""SCSI, pure: CDB bytes in, storage operations out, status and sense back.

CDB        the command descriptor block an initiator sends.
unit       a logical unit: geometry, identity, mode pages, what its storage can do.
plan       what a command still needs of its storage: nothing, one operation, or a generator of them.
operation  a read, write, flush, ... in bytes; performed by a handler.
sense      why a command failed: sense key, additional sense code and qualifier.
nexus      one initiator's view of the unit: its unit attentions.
"""
