"""Commands on their way from the ring to their completion. One ring's thread begins them all.

dispatcher   RingDispatcher: fetches all there is, begins every command, publishes what has ended
fast_path    plain READ and WRITE, straight from the ring to the handler
inflight     InFlight: commands that have begun and not ended, how each ends, and their completions
late         commands that take longer than the administrator, or any storage that works, allows
range_locks  which commands have to wait for others on their blocks
ring_thread  RingThread: the thread that serves one ring or several, and looks at them before it sleeps
transport    where a ring comes from: shared memory, a wake-up, a doorbell
"""
