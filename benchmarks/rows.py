"""Rows of results: measured rounds in, lines of a CSV out. Rows are appended, never edited."""

import csv
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        work: What was done, the same words for every provider of one comparison.
        provider: "ctload" or the rival's name with its version.
        config: The setting, as key=value words.
        metric, unit: What the numbers are.
        p20, p50, p80: Percentiles over `n` rounds.
        machine, commit, date: Where the numbers come from.
    """

    work: str
    provider: str
    config: str
    metric: str
    unit: str
    p20: float
    p50: float
    p80: float
    n: int
    machine: str
    commit: str
    date: str


def machine_name() -> str:
    """Processor and cores, for a reader; no host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if lines:
            model = f"{lines[0].split(':', 1)[1].strip()} x{len(lines)}"
    return model


def commit_hash() -> str:
    """Of the working tree, with "-dirty" when files differ from it (rows that were appended aside); "unknown" where
    git or its folder is missing."""
    commands = (["git", "describe", "--always"], ["git", "status", "--porcelain", "-uno", "--", "..", ":!results"])
    try:
        commit, changed = (
            subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent, check=False).stdout.strip()
            for command in commands
        )
    except OSError:
        return "unknown"
    return f"{commit}{'-dirty' if changed else ''}" or "unknown"


def row_of(work: str, provider: str, config: str, metric: str, unit: str, values: Sequence[float]) -> Row:
    """The row of measured values, one per round."""
    if len(values) > 1:
        cuts = statistics.quantiles(values, n=10, method="inclusive")
        p20, p80 = cuts[1], cuts[7]
    else:
        p20 = p80 = values[0]
    p50 = statistics.median(values)
    today = date.today().isoformat()
    return Row(work, provider, config, metric, unit, p20, p50, p80, len(values), machine_name(), commit_hash(), today)


def append_rows(name: str, rows: Sequence[Row]) -> Path:
    """Append to benchmarks/results/NAME.csv, with a header when the file is new; print them too."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    values = [{key: f"{v:.6g}" if isinstance(v, float) else v for key, v in asdict(row).items()} for row in rows]
    append_table(path, [field.name for field in fields(Row)], values)
    for row in rows:
        spread = f"{row.p50:.4g} [{row.p20:.4g}, {row.p80:.4g}] {row.unit}"
        print(f"{row.work:<44} {row.provider:<28} {row.metric} {spread}")
    return path


def append_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Append rows to a table with columns of its own, with a header when the file is new."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def alternate(candidates: dict[str, Callable[[], float]], *, num_rounds: int) -> dict[str, list[float]]:
    """Run every candidate once per round, in turn, so that a disturbance of the machine meets all of them.

    Args:
        candidates: Name -> a callable that does the work once and gives its measured value.
        num_rounds: Rounds that count; one more, uncounted, comes first to warm caches and compilers.
    """
    values: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(num_rounds + 1):
        print(f"round {round_number} of {num_rounds}" if round_number else "a round that does not count", flush=True)
        for name, run in candidates.items():
            value = run()
            if round_number:
                values[name].append(value)
    return values


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """ours / theirs, round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
