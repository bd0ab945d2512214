"""What can be seen of a LUN from outside.

command_log  commands that failed, the first of a kind in full, then how often; commands that took long
statistics   counters in shared memory, which other processes read while they change
stats_text   statistics in words
view         DeviceView and Watchable: what `list`, `show`, D-Bus and the page show
"""
