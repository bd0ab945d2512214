"""Serving a LUN: between a ring that brings commands and a handler that stores bytes.

lun          Lun: one device, with its unit, handler and dispatcher, and its life cycle
overrides    what an administrator sets of a unit's identity and limits
unit_memory  keeps what initiators rely on for the next process that serves the LUN

serve/       commands: from the ring to their completion
storage/     what commands need of the handler, and where it runs
observe/     what can be seen of all this from outside
"""
