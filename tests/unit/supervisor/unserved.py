"""A device of the kernel that a test does not let anybody serve."""

from tcmu_runner.kernel.paths import SYSTEM, Paths
from tcmu_runner.kernel.uio import UioEntry
from tcmu_runner.supervisor.admission import OpenLimiter
from tcmu_runner.supervisor.device import KernelDevice
from tcmu_runner.workers.server import DeviceServer


def unserved(entry: UioEntry, paths: Paths = SYSTEM) -> KernelDevice:
    def make_server(_device: KernelDevice, _running: bool) -> DeviceServer:
        raise AssertionError("nothing is served here")

    return KernelDevice(entry, paths, OpenLimiter(), make_server)
