"""python -m benchmarks"""

import argparse
import importlib
import sys

KINDS = {
    "kernel": "our `file` against the C daemon and the kernel's fileio: fio on three kernels",
    "fleet": "many devices: creation, memory, idle CPU, four busy LUNs against one; what a death costs",
    "core": "commands per second through ring, SCSI core and engine, without a kernel",
    "stored": "`ram`, `luks`, `zstd`, `qcow` and `nbd` in memory beside nbdkit and qemu-nbd",
    "clustered": "`rbd` and `glfs` beside QEMU's drivers and `rbd bench`",
    "crypt": "`luks` against dm-crypt, in the virtual machine",
    "iscsi": "the embedded mode's iSCSI portal against tgt",
}


def main() -> int:
    """Each kind is a module with ROUNDS, SECONDS and `run(rounds, seconds, keep=...)`: the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures, prints a table and keeps the figures in benchmarks/results/KIND.json.",
        epilog="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()),
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--rounds", type=int, help="how often each arm is measured")
    parser.add_argument("--seconds", type=float, help="for each measurement")
    parser.add_argument("--quick", action="store_true", help="one round of short measurements, not kept")
    options = parser.parse_args()
    kind = importlib.import_module(f"benchmarks.{options.kind}")
    rounds = options.rounds or (1 if options.quick else kind.ROUNDS)
    seconds = options.seconds or (min(2.0, kind.SECONDS) if options.quick else kind.SECONDS)
    status: int = kind.run(rounds, seconds, keep=not options.quick)
    return status


if __name__ == "__main__":
    sys.exit(main())
