"""Process n+1: ends kernel waits for a daemon that is dead or stalled. It imports no engine and no SCSI.

guardian   Guardian: the supervisor's end of the socket
process    the main loop of the guardian process
release    `tcmu-runner release`: for when daemon and guardian are both dead
unlinking  LUNs that are unlinked while no daemon serves them
watchdog   how the guardian tells an idle supervisor from a stalled one
"""
