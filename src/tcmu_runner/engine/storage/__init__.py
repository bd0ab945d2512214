"""Storage operations of commands: calls of the handler, and the threads on which they run.

background     work on the storage for which no command waits
blocking       BlockingDetector: whether a storage makes its thread wait
buffer_guard   checks that foreign handlers fill and drain their buffers
copy_peers     EXTENDED COPY from and to other LUNs
executors      where operations run: on the ring's thread, on other threads, on the asyncio loop
perform        turns an operation of a command into calls of the handler
stack          a handler and the filters above it
"""
