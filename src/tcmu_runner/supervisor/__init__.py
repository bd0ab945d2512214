"""Process 1, the daemon on a real kernel. It decides and never blocks; all of it runs on the event loop.

admission       how many devices are opened at once
backoff         how soon a device is served again after its server has ended
coexistence     devices of other daemons on the same kernel
device          one device: its UIO descriptor, its actions, the server of its ring
device_manager  DeviceManager: all devices, and what is done to each, one thing at a time
events          NetlinkEvents: the kernel's events in, replies out; heartbeats
journal         the state of each device, and its events, for the log and all that show it
live_settings   the settings in force, and what changes while the daemon runs
origins         which LUNs were served before: tells a restored LUN from a new one
serials         unit serial numbers of LUNs without one, and LUNs with the same identifier
"""
