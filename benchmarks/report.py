"""Results as they are kept, and the table for a person."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

CHECKOUT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


class Row(TypedDict):
    """One workload on one arm. iops: of each round; the others are medians over the rounds."""

    workload: str
    arm: str
    iops: list[float]
    p99_us: float
    cpu_us_per_io: float | None
    syscalls_per_io: float | None
    switches_per_io: float | None


class Measurement(TypedDict):
    """One quantity of one arm, as often as it was measured."""

    what: str
    arm: str
    values: list[float]


def keep(kind: str, rows: Sequence[object]) -> Path:
    """Writes benchmarks/results/KIND.json, with the commit that was measured."""
    path = RESULTS / f"{kind}.json"
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"commit": "{commit()}", "rows": [\n  {lines}\n]}}\n')
    return path


def commit() -> str:
    """HEAD of the checkout; "+" behind it tells that the package's source was not as committed."""
    head = git("rev-parse", "HEAD")
    return f"{head}+" if git("status", "--porcelain", "--", "src") else head


def git(*arguments: str) -> str:
    command = ["git", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def table(rows: Sequence[Row]) -> str:
    """All arms side by side, and how we stand to the others; medians over the rounds."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    daemons = [arm for arm in arms if arm != "fileio"]
    blocks = [
        block("IOPS", rows, arms, lambda row: median(row["iops"]), ratios=True),
        block("99th percentile of the latency, us", rows, arms, lambda row: row["p99_us"]),
        block(
            "CPU of all the daemon's processes per I/O, us", rows, daemons, lambda row: row["cpu_us_per_io"]
        ),
        block("System calls per I/O", rows, daemons, lambda row: row["syscalls_per_io"], digits=1),
        block("Context switches per I/O", rows, daemons, lambda row: row["switches_per_io"], digits=1),
    ]
    return "\n\n".join([*blocks, FOOTNOTE])


FOOTNOTE = (
    "Medians over the rounds. CPU is user and system time, without the kernel's own threads. Arms named\n"
    "-2048 have hw_max_sectors=2048; the others the default of 128, by which C gets 128 KiB as two commands."
)


def by_machine(rows: Sequence[dict[str, Any]]) -> str:
    """How we stand to the others on each machine: a line for each workload, medians over the rounds."""
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    iops = {(row["machine"], row["workload"], row["arm"]): median(row["iops"]) for row in rows}
    lines = [f"{'ours / C (/ fileio)':18}{''.join(f'{machine:>20}' for machine in machines)}"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        cells = []
        for machine in machines:
            ours, c, kernel = (iops[machine, workload, arm] for arm in ("ours", "c", "fileio"))
            cells.append(f"{f'{ours / c:.2f} ({ours / kernel:.2f})':>20}")
        lines.append(f"{workload:18}{''.join(cells)}")
    return "\n".join(lines)


def list_of(measurements: Sequence[Measurement]) -> str:
    """A line for each quantity and arm."""
    lines = [f"{'':48}{'arm':>8}{'number':>8}{'median':>12}{'least':>12}{'most':>12}"]
    for each in measurements:
        values = each["values"]
        figures = "".join(f"{value:12.3f}" for value in (median(values), min(values), max(values)))
        lines.append(f"{each['what']:48}{each['arm']:>8}{len(values):8}{figures}")
    return "\n".join(lines)


def block(
    title: str,
    rows: Sequence[Row],
    arms: Sequence[str],
    value: Callable[[Row], float | None],
    *,
    ratios: bool = False,
    digits: int = 0,
) -> str:
    """One quantity: a line for each workload, a column for each arm, and maybe what is ours to each other."""
    others = [arm for arm in ("c", "fileio") if ratios and {arm, "ours"} <= set(arms)]
    heads = [f"{arm:>11}" for arm in arms] + [f"{'ours/' + arm:>13}" for arm in others]
    lines = [title, f"{'':18}{''.join(heads)}"]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        found = {row["arm"]: value(row) or 0.0 for row in rows if row["workload"] == workload}
        cells = [f"{found[arm]:11.{digits}f}" for arm in arms]
        cells += [f"{found['ours'] / found[arm]:13.2f}" for arm in others]
        lines.append(f"{workload:18}{''.join(cells)}")
    return "\n".join(lines)
