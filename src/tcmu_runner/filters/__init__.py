"""Filters that come with tcmu-runner: files or packages, found by the entry points
`tcmu_runner.filters`.

filter: stands between a unit and a handler, and changes operations on their way.
stack: a handler with filters above it, under a name of its own.
above: towards the initiators. below: towards the storage.

bitmap        a bit for each block, in memory or a file
cache         `cache`: chunks of the disk in a faster file
cache_file    the file of `cache`
checksums     the file of `verify`
cow           `cow`: writes go into a file of their own
delay         `delay`: a slow storage
error         `error`: faults on demand
faults        rules of `error`: which operations fail, and how
log           `log`: operations in the log
offset        `offset`: a LUN that begins inside its storage
op_names      names and byte ranges of operations, for options, logs and statistics
options       options of filters, from the settings
overlay       the file of `cow`
rate          `rate`: a limit on operations and bytes per second
readonly      `readonly`: a write-protected disk
retry         `retry`: repeats operations that failed for a passing reason
sidecar       the file that a filter keeps beside the data: one for each device
stats         `stats`: counts operations
striped_lock  StripedLock: one thread at a time on each part of a disk
verify        `verify`: checks that a block reads as it was written

luks/         `luks`: LUKS volumes
"""
