"""Serving a LUN: between a ring that brings commands and a handler that stores bytes.

LUN         one device: unit, handler and pump together, with its life cycle.
transport   where a ring comes from: shared memory, a wake-up, a doorbell. The engine does not know its kind.
pump        the thread on a ring: fetch, start, complete in batches.
executor    where a command's storage operations run: on the ring's thread, on worker threads, on asyncio.
view        what can be seen of all this, and asked of it, from outside.
threads     blocking calls beside an event loop.
outcome     how a command ended: status, sense, and how much data is valid.
"""
