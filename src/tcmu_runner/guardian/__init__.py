"""Process n+1: it ends the kernel's waits for a daemon that cannot answer. It knows no engine and no SCSI.

guardian   Guardian: the daemon's end of the line
process    the guardian's life
release    `tcmu-runner release`: after a daemon and a guardian that are both dead
unlinking  LUNs that are unlinked while no daemon serves them
watchdog   how the guardian tells an idle daemon from one that stands still
"""
