"""What commands need of the handler, and the threads on which it runs.

background     work on the storage for others than its own commands: in the background, copies of other LUNs
blocking       BlockingDetector: whether a storage makes its thread wait
buffer_guard   buffers of handlers that are not ours are filled and drained whole
executors      where operations run: on the ring's thread, or on other threads
on_loop        handlers on the asyncio loop: operations, plans, filters, executor
perform        an operation of a command, as calls of the handler
stack          a handler and the filters above it
"""
