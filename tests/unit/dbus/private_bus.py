"""A system bus of the test's own: a real dbus-daemon, where anybody may do anything."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <servicedir>{services}</servicedir>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""

# As installed, but that nothing can be started by it: who tries gets another error than who does not.
SERVICE = """[D-BUS Service]
Name=org.kernel.TCMUService1
Exec=/bin/false
User=root
"""


@contextmanager
def private_bus(directory: Path) -> Iterator[str]:
    """The address, for DBUS_SYSTEM_BUS_ADDRESS."""
    configuration = directory / "bus.conf"
    (services := directory / "services").mkdir()
    (services / "tcmu-runner.service").write_text(SERVICE)
    configuration.write_text(CONFIGURATION.format(socket=directory / "bus", services=services))
    read, write = os.pipe()
    command = ["dbus-daemon", f"--config-file={configuration}", "--nofork", f"--print-address={write}"]
    with subprocess.Popen(command, pass_fds=[write]) as process:
        os.close(write)
        with open(read) as line:
            address = line.readline().strip()
        try:
            yield address
        finally:
            process.terminate()
