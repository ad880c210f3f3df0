"""One row to be of GPU work: what is measured, what was predicted, and how it is made. Rows that exist are skipped."""

import contextlib
import csv
import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.device_clock import time_work
from benchmarks.rows import RESULTS, Row, commit_hash

ROUNDS = 20
TRIES = 2  # of a case that fails


@dataclass(frozen=True)
class Case:
    """Work to time.

    Attributes:
        work, provider, config: As in benchmarks/rows.py.
        make: Prepares tensors and gives the callable to time; what it needs and lacks, it raises.
        count: Studies of one call: the row is a rate. 0: the row is a time in microseconds.
        moved_bytes: Of one call, read and written at the least: the row is a bandwidth.
        operations: Floating-point operations of one call: the row is TFLOP/s.
        predicted: In the row's unit, written down before any measurement; None where nobody did.
        floor: In the row's unit, what the hardware's ceilings allow; None where it was not derived.
        graph_calls: Timed as replays of a CUDA graph of so many calls; 0 is without a graph.
    """

    work: str
    provider: str
    config: str
    make: Callable[[], Callable[[], Any]]
    count: int = 0
    moved_bytes: int = 0
    operations: float = 0.0
    predicted: float | None = None
    floor: float | None = None
    graph_calls: int = 0


@dataclass(frozen=True)
class GpuRow:
    """A line of results/gpu.csv: the columns of benchmarks/rows.py, and predicted, floor, compile_s, peak_gib, failure.

    Attributes:
        compile_s: The first call.
        failure: Why there is no number, or empty.
    """

    work: str
    provider: str
    config: str
    metric: str
    unit: str
    p20: float | str
    p50: float | str
    p80: float | str
    n: int
    predicted: float | str
    floor: float | str
    compile_s: float | str
    peak_gib: float | str
    failure: str
    machine: str
    commit: str
    date: str


class Ledger:
    """results/gpu.csv: what is in it for this machine is not measured again.

    Args:
        path: The file; is made with a header.
        machine: Name of the GPU and versions that a number depends on.
        is_dry: Nothing is written.
        commit: Of the code, where git cannot be asked for it.
    """

    def __init__(self, path: Path, machine: str, *, is_dry: bool, commit: str = "") -> None:
        self.path, self.machine, self.is_dry = path, machine, is_dry
        self.commit = commit or commit_hash()
        lines: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
        self._done = {_key(line) for line in lines if not line["failure"]}
        self._failed = Counter(_key(line) for line in lines if line["failure"])

    def has(self, case: Case) -> bool:
        """Whether there is a number, or failures enough to stop trying."""
        key = (case.work, case.provider, case.config, self.machine)
        return key in self._done or self._failed[key] >= TRIES

    def add_row(self, row: Row, *, predicted: float | None = None) -> None:
        """A row that no Case made."""
        words = (row.work, row.provider, row.config, row.metric, row.unit, row.p20, row.p50, row.p80, row.n)
        known = "" if predicted is None else predicted
        self.add(GpuRow(*words, known, "", "", "", "", self.machine, self.commit, row.date))

    def add(self, row: GpuRow) -> None:
        shown = row.failure or f"{row.p50:.5g} {row.unit}" if isinstance(row.p50, float) else row.failure
        predicted = f"predicted {row.predicted:.4g}" if isinstance(row.predicted, float) else ""
        print(f"{row.work:<34} {row.provider:<34} {row.config:<30} {row.metric} {shown} {predicted}", flush=True)
        if self.is_dry:
            return
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(GpuRow)], lineterminator="\n")
            if is_new:
                writer.writeheader()
            values = asdict(row)
            writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in values.items()})


def _key(line: dict[str, str]) -> tuple[str, ...]:
    return line["work"], line["provider"], line["config"], line["machine"]


def machine_of_gpu() -> str:
    """GPU and the versions that numbers depend on; "cpu" without one."""
    if not torch.cuda.is_available():
        return "cpu"
    cudnn = torch.backends.cudnn.version()
    return f"{torch.cuda.get_device_name()} torch={torch.__version__} cudnn={cudnn}"


def run_cases(cases: Iterable[Case], ledger: Ledger, *, limit_s: float) -> bool:
    """Measure what has no row yet until the time is over. A case that fails gets a row that says why.

    Returns:
        Whether all cases were reached.
    """
    started = time.perf_counter()
    for case in cases:
        if ledger.has(case):
            continue
        if time.perf_counter() - started > limit_s:
            print(f"{limit_s:g} s are over: the same command goes on where this one stopped", flush=True)
            return False
        ledger.add(_measure(case, ledger))
        gc.collect()
        torch._dynamo.reset()
        if torch.cuda.is_available():
            _check_device(case)
            torch.cuda.empty_cache()
    return True


def _check_device(case: Case) -> None:
    """End the program where a case left the device broken: no row after it would be true."""
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise SystemExit(
            f"{case.work}, {case.provider} broke the device ({error}); start the same command again"
        ) from None


def _measure(case: Case, ledger: Ledger) -> GpuRow:
    metric, unit = _metric(case)
    try:
        timing = time_work(case.make(), rounds=2 if ledger.is_dry else ROUNDS, graph_calls=case.graph_calls)
    # A rival that does not run here (Triton's and compilers' errors have bases of their own), or memory that runs out,
    # is a result.
    except Exception as error:
        if ledger.is_dry and not isinstance(error, ImportError):
            raise
        return _row(case, ledger, metric, unit, ("", "", ""), 0, "", "", f"{type(error).__name__}: {str(error)[:160]}")
    values = sorted(_value(case, seconds) for seconds in timing.each_s)
    cuts = statistics.quantiles(values, n=10, method="inclusive") if len(values) > 1 else values * 9
    spread = (cuts[1], statistics.median(values), cuts[7])
    return _row(case, ledger, metric, unit, spread, len(values), timing.first_s, timing.peak_bytes / 2**30, "")


def _row(case: Case, ledger: Ledger, metric, unit, spread, n, compile_s, peak_gib, failure) -> GpuRow:
    p20, p50, p80 = spread
    predicted, floor = ("" if value is None else float(value) for value in (case.predicted, case.floor))
    return GpuRow(
        work=case.work, provider=case.provider, config=case.config, metric=metric, unit=unit, p20=p20, p50=p50, p80=p80,
        n=n, predicted=predicted, floor=floor, compile_s=compile_s, peak_gib=peak_gib, failure=failure,
        machine=ledger.machine, commit=ledger.commit, date=date.today().isoformat(),
    )  # fmt: skip


def _metric(case: Case) -> tuple[str, str]:
    if case.count:
        return "rate", "studies/s"
    if case.moved_bytes:
        return "bandwidth", "TB/s"
    return ("arithmetic", "TFLOP/s") if case.operations else ("time", "us")


def _value(case: Case, seconds: float) -> float:
    if case.count:
        return case.count / seconds
    if case.moved_bytes:
        return case.moved_bytes / seconds / 1e12
    return case.operations / seconds / 1e12 if case.operations else seconds * 1e6


@contextlib.contextmanager
def bfloat16():
    """Autocast to bfloat16 on the device at hand; on the CPU too, so that a dry run takes the same path."""
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", dtype=torch.bfloat16):
        yield


def device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


LEDGER = RESULTS / "gpu.csv"
