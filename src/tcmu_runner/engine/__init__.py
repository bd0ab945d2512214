"""Serving a LUN: between a ring that delivers commands and a handler that stores bytes.

lun          Lun: one device, with its unit, handler and dispatcher, and its life cycle
overrides    an administrator's settings of a unit's identity and limits
unit_memory  keeps a unit's state for the next process that serves the LUN, whole after a kill

serve/       commands: from the ring to their completion
storage/     storage operations of commands, and the threads on which they run
observe/     statistics, logs of failures and slow commands, views for other processes
"""
