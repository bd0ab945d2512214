"""Commands from the ring to their completion. The ring's thread begins each of them.

dispatcher   RingDispatcher: fetches commands, begins them, publishes completions
fast_path    plain READ and WRITE, straight from the ring to the handler
inflight     InFlight: commands that have begun and not ended, how each ends, and their completions
late         commands that exceed the administrator's limit, or that of any working storage
range_locks  commands that have to wait for others on their blocks
ring_thread  RingThread: the thread that serves one ring or several, and polls them before it sleeps
transport    Transport, the front end's side of a ring: shared memory, wake-up, doorbell
"""
