"""Our filter `luks` against dm-crypt, both at the target, in the virtual machine.

Emulated AES instructions are slow, so the cipher itself takes a larger part here than anywhere else.
"""

from benchmarks.kernel import TURN_SECONDS, in_guest

ROUNDS = 3
SECONDS = 2.0


def run(rounds: int, seconds: float, *, keep: bool = True) -> int:
    """As benchmarks.kernel."""
    patience = 4 * (TURN_SECONDS + 6 * seconds)
    return in_guest("crypt", "benchmarks.guest", rounds, seconds, patience, "crypt", keep=keep)
