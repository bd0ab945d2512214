"""For tests of handlers and filters. All of it is public, as tcmu_runner is; nothing here imports pytest.

check_handler, check_class  the conformance kit on a handler: does it keep the contract of the storage below?
check_filter                the same on a handler with filters above it
serve, Disk, Initiator      a LUN in this process, without kernel module or root, and a small iSCSI initiator
play, disk                  a conversation with a unit: a CDB in, the operations that it asks for, the ending
Producer                    the kernel's side of a ring
RamHandler                  a disk in memory, to derive from

    from tcmu_runner.testing import check_class

    def test_it_keeps_the_contract():
        report = check_class(MyHandler, "options")
        assert report.ok, str(report)

conformance/  the kit
fixtures      pytest fixtures: pytest_plugins = ["tcmu_runner.testing.fixtures"]
play          conversations with a unit
stacked       a handler with filters above it, as one handler
"""

from tcmu_runner.embedded import Disk, Server, serve
from tcmu_runner.embedded.initiator import Initiator, Result
from tcmu_runner.handlers.ram import RamHandler
from tcmu_runner.ring import Producer
from tcmu_runner.testing.conformance import Outcome, Report, check_class, check_handler, device
from tcmu_runner.testing.play import disk, play
from tcmu_runner.testing.stacked import check_filter, open_stack

__all__ = [
    "Disk",
    "Initiator",
    "Outcome",
    "Producer",
    "RamHandler",
    "Report",
    "Result",
    "Server",
    "check_class",
    "check_filter",
    "check_handler",
    "device",
    "disk",
    "open_stack",
    "play",
    "serve",
]
