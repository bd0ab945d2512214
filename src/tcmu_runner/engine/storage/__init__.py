"""Storage operations of commands: calls of the handler, and the threads on which they run.

background     work on the storage for which no command of the LUN waits, and copies by other LUNs
blocking       BlockingDetector: whether a storage makes its thread wait
buffer_guard   checks that foreign handlers fill and drain their buffers
executors      where operations run: on the ring's thread, or on other threads
on_loop        handlers on the asyncio loop: operations, plans, filters, executor
perform        turns an operation of a command into calls of the handler
stack          a handler and the filters above it
"""
