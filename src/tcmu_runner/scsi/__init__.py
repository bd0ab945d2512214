"""SCSI, pure: CDB bytes in, storage operations out, status and sense back.

CDB: the command descriptor block that an initiator sends.
plan: what a command still needs of its storage: nothing, one operation, or a generator of them.
operation: a read, write, flush, ... in bytes; performed by a handler.
nexus: an initiator and a target port (SAM-5 4.8); has its own unit attentions.

cdb_layout    CdbLayout: positions of LBA, number of blocks and length of data in a CDB
command       Command and Nexus
conditions    when a unit offers a command
fields        fields of CDBs that no command evaluates: refused or ignored, with the reason
filling       fills ranges of the medium, in pieces
medium        whether commands may touch the medium, and why not
mode_pages    mode pages: current, changeable and default values
opcodes       THE opcode table of a disk
operations    storage operations: read, write, flush, ...
plain         recognizes plain READ and WRITE
ports         target ports and their groups (ALUA)
profile       capabilities, identity and limits of a unit
reference     the tables of commands and CDB bits for the documentation
reservations  PERSISTENT RESERVE and RESERVE, a state machine over nexuses
sense         status and sense
table         Row and Table: one row for each opcode or service action
unit          Unit: state, and the checks that every command passes first
unit_state    a unit's state as plain values, for its successor
vpd           vital product data pages
xcopy         EXTENDED COPY: descriptors, limits, and the way to other LUNs
"""
