"""What other processes and people can see of a LUN.

command_log  commands that failed, the first of a kind in full, then how often; commands that took long
statistics   counters in shared memory, read by other processes
stats_text   statistics as text
view         DeviceView and Watchable: the data of `list`, `show`, D-Bus and the status page
"""
