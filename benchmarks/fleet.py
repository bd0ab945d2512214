"""Many devices at once, and what a killed process costs, in one boot of the virtual machine."""

from benchmarks.kernel import in_guest

ROUNDS = 3
SECONDS = 4.0
PATIENCE = 1800.0  # of a round: both arms create and remove 64 devices, and stand idle for a minute


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    """Boots, measures, keeps the rows. Returns the exit status."""
    return in_guest("fleet", "benchmarks.fleet_guest", rounds, seconds, PATIENCE, keep=keep)
