"""tcmu-runner: SCSI disks (LUNs) whose bytes are stored by a Python handler."""
