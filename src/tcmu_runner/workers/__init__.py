"""Processes 2 and following: each serves the rings of its devices. The supervisor's side of them is here,
too.

In the supervisor, on its event loop:
  forkserver     ForkServer: the process from which all workers are forked, so that they share its memory
  handle         WorkerHandle: the supervisor's end of one worker's socket
  pool           which worker serves a device; WorkerServer, which sends the device's requests to it
  server         Server, the supervisor's interface to what serves a ring; LocalServer, in its own process
  state_files    the files in which a LUN's state outlives the process that serves it

In both:
  protocol       the messages between supervisor and worker

In the process that serves:
  unit_services  LIO's target port groups for a unit, and the opcodes that LIO answers itself
  lun            KernelLun: UIO descriptor, configuration and LUN of one device
  worker         Worker: the main loop of a worker
  warm_spare     a dry run, so that a spare worker has touched the memory it will need
"""
