"""Running the cells of a study: one after the other, or several at once in processes of their own.

Each process runs one cell by `ctclip study cell`; the same commands can be printed for a batch system. A killed grid
goes on when it is started again: finished cells have their result, others their checkpoint.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import StudyError
from ctclip.study.cell_run import cell_folder, read_result
from ctclip.study.grid import Cell
from ctclip.training.loop import train
from ctclip.training.runlog import read_metrics

_POLL_S = 0.2


@dataclass(frozen=True)
class Cost:
    """What is left of a grid.

    Attributes:
        num_cells, num_done: Cells in all, and those with a result.
        cell_s: Seconds of one cell: the mean of finished ones, else from timed steps.
        hours: For the cells left, on this machine.
    """

    num_cells: int
    num_done: int
    cell_s: float
    hours: float

    def __str__(self) -> str:
        return (
            f"{self.num_cells} cells, {self.num_done} done; about {self.cell_s:.0f} s a cell, "
            f"{self.hours:.1f} h for the rest on this machine"
        )


def cell_command(folder: Path, cell: Cell) -> list[str]:
    """The words that run one cell anywhere with the same paths."""
    return [sys.executable, "-m", "ctclip.cli", "study", "cell", "--out", str(folder), "--name", cell.name]


def batch_commands(folder: Path, cells: Sequence[Cell]) -> str:
    """One shell line per cell without a result."""
    left = [cell for cell in cells if read_result(folder, cell) is None]
    return "\n".join(shlex.join(["python", *cell_command(folder, cell)[1:]]) for cell in left)


def estimate_cost(folder: Path, cells: Sequence[Cell], *, jobs: int, cohort: Cohort, timed_steps: int = 12) -> Cost:
    """Cells and hours that are left.

    Without a finished cell a few steps of the first are trained in a scratch folder and thrown away; processes
    that share cores slow each other, which this does not know.
    """
    results = [result for cell in cells if (result := read_result(folder, cell)) is not None]
    if results:
        cell_s = sum(result["seconds"] for result in results) / len(results)
    else:
        cell_s = _time_steps(folder, cells[0], cohort, timed_steps)
    left = len(cells) - len(results)
    return Cost(len(cells), len(results), cell_s, left * cell_s / max(1, jobs) / 3600)


def run_cells(
    folder: Path,
    cells: Sequence[Cell],
    *,
    jobs: int,
    told: Callable[[Cell, str], None] = lambda cell, state: None,
) -> None:
    """Run every cell without a result, `jobs` at a time; GPUs in turn where there are several.

    A cell that fails does not stop the others.

    Args:
        folder: Of the study.
        cells: In the order in which they begin.
        jobs: Processes at once.
        told: Called with a cell and "begins", "done" or "failed".

    Raises:
        StudyError: Cells failed; it names each with the last line it printed.
    """
    waiting = [cell for cell in cells if read_result(folder, cell) is None]
    num_devices = torch.cuda.device_count()
    failed: dict[str, str] = {}
    running: dict[int, tuple[Cell, subprocess.Popen]] = {}
    with _ended(running):
        while waiting or running:
            free = [slot for slot in range(jobs) if slot not in running]
            for slot in free[: len(waiting)]:
                cell = waiting.pop(0)
                told(cell, "begins")
                running[slot] = cell, _start(folder, cell, slot % num_devices if num_devices else None)
            time.sleep(_POLL_S)
            for slot, (cell, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[slot]
                is_done = process.returncode == 0 and read_result(folder, cell) is not None
                told(cell, "done" if is_done else "failed")
                if not is_done:
                    failed[cell.name] = _last_line(folder, cell)
    if failed:
        lines = "; ".join(f"{name}: {line}" for name, line in failed.items())
        raise StudyError(f"{len(failed)} of {len(cells)} cells failed, the others are done. {lines}", path=folder)


def _start(folder: Path, cell: Cell, device: int | None) -> subprocess.Popen:
    here = cell_folder(folder, cell)
    here.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ) | ({"CUDA_VISIBLE_DEVICES": str(device)} if device is not None else {})
    with (here / "output.log").open("ab") as log:
        return subprocess.Popen(cell_command(folder, cell), stdout=log, stderr=log, env=environment)


@contextmanager
def _ended(running: dict[int, tuple[Cell, subprocess.Popen]]) -> Iterator[None]:
    """Cells still running when an exception passes are told to write a checkpoint and stop."""
    try:
        yield
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()


def _last_line(folder: Path, cell: Cell) -> str:
    lines = (
        (cell_folder(folder, cell) / "output.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    )
    return lines[-1] if lines else "it printed nothing"


def _time_steps(folder: Path, cell: Cell, cohort: Cohort, timed_steps: int) -> float:
    """Seconds of a whole cell by some of its steps."""
    scratch = folder / "timing"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        config = replace(cell.config, out=str(scratch), log_every=1)
        train(config, cohort=cohort, stop_at=min(timed_steps, config.steps), is_quiet=True)
        seconds = sorted(line["step_s"] for line in read_metrics(scratch))
        return seconds[len(seconds) // 2] * config.steps
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
