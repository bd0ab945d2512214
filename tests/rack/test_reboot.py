"""A gateway is restarted by its administrator while an initiator on another machine writes to it."""

import time
from concurrent.futures import ThreadPoolExecutor

from vm.rack import Rack

GATEWAYS = ("left", "right")
SCRIPT = "PYTHONPATH=tests/vm python tests/rack/in_machine.py"
START_SECONDS = 900.0


def test_a_reboot_of_one_gateway_under_verified_load(machines: Rack) -> None:
    """The commands wait for the gateway: nothing fails, every byte is right, and the other one goes on."""
    for name in GATEWAYS:
        machines.run(name, f"{SCRIPT} serve {name} {machines.addresses[name]}")
    share = machines.machines["initiator"].share
    gateways = " ".join(f"{name}={machines.addresses[name]}" for name in GATEWAYS)
    with ThreadPoolExecutor(1) as pool:
        verification = pool.submit(machines.run, "initiator", f"{SCRIPT} verify {gateways}", timeout=1800)
        deadline = time.monotonic() + START_SECONDS
        while not (share / "started").exists():
            assert not verification.done(), verification.result()
            assert time.monotonic() < deadline, "the initiator has not begun"
            time.sleep(0.1)
        machines.reboot("right")
        machines.run("right", f"{SCRIPT} serve right {machines.addresses['right']}")
        (share / "stop").touch()
        verification.result()
