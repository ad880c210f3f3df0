"""`python -m benchmarks.phantom`: how fast phantoms are made, per core, appended to benchmarks/results/phantom.csv.

CPU seconds of one process, so that what else the machine does counts as little as it can. `render` is voxels and
masks in memory; `study` also writes the report, the row and a .nii.gz.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import append_rows, row_of
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.rendering import render
from ctclip.phantom.study import draw_patient, draw_study
from ctclip.phantom.writer import StudyOrder, write_study

SHAPES = ((40, 64, 64), (64, 96, 96), (160, 224, 224))


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phantom", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="studies per shape, after one that does not count")
    num_rounds = parser.parse_args().rounds
    knobs = Knobs.realistic()
    rows = []
    for shape in SHAPES:
        grid = Grid.covering(shape)
        studies = [draw_study(0, draw_patient(0, index, knobs), 0, knobs) for index in range(num_rounds + 1)]
        rendered = [cpu_seconds(lambda study=study, grid=grid: render(study, grid)) for study in studies][1:]
        written = _written(grid, knobs, num_rounds + 1)[1:]
        config = "shape=" + "x".join(map(str, shape)) + " cores=1 clock=cpu"
        for work, values in (("render", rendered), ("study", written)):
            rows.append(row_of(f"phantom {work}", "ctclip", config, "time per study", "s", values))
        rates = [1 / value for value in written]
        rows.append(row_of("phantom study", "ctclip", config, "rate per core", "studies/s", rates))
    append_rows("phantom", rows)


def _written(grid: Grid, knobs: Knobs, num_studies: int) -> list[float]:
    """CPU seconds per study, volume, report and row, written as .nii.gz into a folder that is then deleted."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "volumes").mkdir()
        orders = [
            StudyOrder(out, 0, index, 0, "train", knobs, grid, "nii.gz", has_masks=False)
            for index in range(num_studies)
        ]
        return [cpu_seconds(lambda order=order: write_study(order)) for order in orders]


if __name__ == "__main__":
    main()
