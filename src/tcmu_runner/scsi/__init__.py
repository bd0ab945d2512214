"""SCSI, pure: CDB bytes in, storage operations out, status and sense back.

CDB: the command descriptor block that an initiator sends.
plan: what a command still needs of its storage: nothing, one operation, or a generator of them.
operation: a read, write, flush, ... in bytes; performed by a handler.
nexus: an initiator and a target port (SAM-5 4.8); has its own unit attentions.

cdb              positions of fields in a CDB, and fields that are refused or ignored, with the reason
command          Command and Nexus
medium           whether commands may touch the medium, and why not
mode_pages       mode pages: current, changeable and default values
opcodes          THE opcode table of a disk: a row for each command
opcodes_primary  its rows for the commands that every device has
operations       storage operations: read, write, flush, ...
ports            target ports and their groups (ALUA)
profile          capabilities, identity and limits of a unit
reference        the tables of commands and CDB bits for the documentation
reservations     PERSISTENT RESERVE and RESERVE, a state machine over nexuses
sense            status and sense
table            Row and Table: one row for each opcode or service action, and when a unit offers it
unit             Unit: state, and the checks that every command passes first
unit_state       a unit's state as plain values, for its successor
vpd              vital product data pages: 00h, 80h, 83h, 86h, 8Fh, B0h to B2h
xcopy            EXTENDED COPY: descriptors, limits, and the way to other LUNs

commands/        the functions of the commands, one module per family
"""
