"""`python -m benchmarks.gpu [--part NAME]`: everything that needs a GPU, in parts of under eight minutes each.

Rows go to benchmarks/results/gpu.csv, each with its prediction and its first (compiling) call apart. A row that is
there for this GPU and these versions is not measured again, so a part that was cut off goes on where it stopped.
`--dry-run` runs every part at tiny sizes on the CPU and writes nothing: that the programme works, no number.
"""

import argparse
import csv
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import gpu_kernels, gpu_ladder, gpu_loading, gpu_training
from benchmarks.gpu_case import LEDGER, Ledger, machine_of_gpu, run_cases
from benchmarks.gpu_correctness import correctness
from benchmarks.gpu_launches import launches
from benchmarks.gpu_waiting import waiting

LIMIT_S = 330.0  # no case is begun after this: the longest compiles two towers, and a part is to end within 480 s
CASES = {
    "ceilings": gpu_kernels.ceilings,
    "kernels": gpu_kernels.contrast,
    "queue": gpu_kernels.queue,
    "bn_act": gpu_kernels.batch_norm,
    "encoder": gpu_ladder.ladder,
    "text": gpu_training.text,
    "training": gpu_training.training,
    "memory": gpu_ladder.memory,
    "loading": gpu_loading.loading,
}
WITHOUT_CASES = {"launches": launches, "waiting": waiting}
PARTS = ("correctness", *CASES, *WITHOUT_CASES, "projection")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; all by default")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU too; writes nothing")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="seconds of one part")
    parser.add_argument("--out", type=Path, default=LEDGER, help="the table")
    parser.add_argument("--commit", default="", help="of this code, where its folder is a copy without git")
    words = parser.parse_args(arguments)
    if not words.dry_run and not torch.cuda.is_available():
        print(
            "benchmarks.gpu needs a CUDA GPU and found none; --dry-run checks the programme on the CPU", file=sys.stderr
        )
        return 2
    ledger = Ledger(words.out, machine_of_gpu(), is_dry=words.dry_run, commit=words.commit)
    is_whole = True
    for part in words.part or PARTS:
        print(f"== {part} ({ledger.machine})", flush=True)
        started = time.perf_counter()
        is_whole &= run_part(part, ledger, is_tiny=words.dry_run, limit_s=words.limit_s)
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
    return 0 if is_whole else 3


def run_part(part: str, ledger: Ledger, *, is_tiny: bool, limit_s: float) -> bool:
    """Run one part; whether all of it was reached."""
    if part == "correctness":
        correctness(ledger)
        return True
    if part in WITHOUT_CASES:
        WITHOUT_CASES[part](ledger, is_tiny=is_tiny)
        return True
    if part == "projection":
        print_projection(ledger)
        return True
    if part == "loading" and not _has_dali():
        print("needs NVIDIA DALI (the extra `dali`)", flush=True)
        return False
    make: Callable = CASES[part]
    return run_cases(make(is_tiny), ledger, limit_s=limit_s)


def _has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def print_projection(ledger: Ledger) -> None:
    """Days of Merlin's training at each measured rate of whole steps on this machine."""
    lines = []
    if ledger.path.exists():
        with ledger.path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if line["work"] == "training step" and line["p50"]]
    for line in lines:
        if line["machine"] == ledger.machine:
            days = gpu_training.projected_days(float(line["p50"]))
            print(f"{line['provider']:<40} {line['config']:<40} {days:.2f} days for 15,314 studies x 100 epochs")
    if not lines:
        print("no measured training step yet: run --part training first", flush=True)


if __name__ == "__main__":
    sys.exit(main())
