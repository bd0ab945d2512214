"""Processes 2 and following: each serves the rings of its devices. The supervisor's end of them is here, too.

In the supervisor, on its event loop:
  forkserver     ForkServer: the process from which all workers are forked, so that they share its memory
  handle         WorkerHandle: the supervisor's end of one worker
  pool           which worker serves a device, and what is asked of it there
  server         what the supervisor asks of the server of a ring, and one in the supervisor's own process
  state_files    the files in which a LUN's state outlives the process that serves it

In both:
  protocol       the messages between supervisor and worker
  ring_ready     the word that a ring is empty, for which a server waits with its storage open

In the process that serves:
  unit_services  what LIO knows of a unit, and what it answers itself
  lun            KernelLun: UIO descriptor, configuration and LUN of one device
  worker         Worker: the main loop of a worker
  warm_spare     a dry run that makes a spare worker touch the memory it will need
"""
