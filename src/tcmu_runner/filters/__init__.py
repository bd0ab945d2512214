"""Filters that come with tcmu-runner: one file each, found by the entry points `tcmu_runner.filters`.

filter   stands between a unit and a handler, and changes operations on their way.
stack    a handler with filters above it, under a name of its own.
above    where the initiators are. below: where the bytes are.
"""
