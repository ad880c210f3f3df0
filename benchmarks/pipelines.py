"""`python -m benchmarks.pipelines`: what each CPU pipeline needs for one study, work by work, in turn, on one thread.

Why pipeline="auto" is numba on the CPU is decided by these rows. Voxels are made up; no file is read.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.rows import alternate, append_rows, paired_ratios, row_of
from ctload.geometry import Triple
from ctload.pipeline.opening import open_pipeline
from ctload.pipeline.spec import PipelineSpec
from ctload.planning.augment import warp_matrices
from ctload.planning.plan import BatchPlan
from ctload.testing import synthetic_volume

WORKS: dict[str, tuple[Triple, str]] = {
    "flips of 160x224x224": ((160, 224, 224), "flip"),
    "flips of 96x96x96": ((96, 96, 96), "flip"),
    "warp by 10 degrees of 96x96x96": ((96, 96, 96), "warp"),
    "blur of 96x96x96, sigma 1": ((96, 96, 96), "blur"),
    "coarsening of 96x96x96, 2x1.5x1.5": ((96, 96, 96), "coarse"),
}


def plan_of(shape: Triple, kind: str) -> BatchPlan:
    """One study, flipped along z and x, with one change more."""
    turned = warp_matrices(shape, np.ones((1, 3)), np.array([[10.0, 0, 0]]), np.ones(1), np.zeros((1, 3)))
    return BatchPlan(
        epoch=0,
        step=0,
        unit="",
        rows=np.zeros(1, np.int64),
        box_start=np.zeros((1, 3), np.int64),
        crop_shape=shape,
        flip=np.array([[True, False, True]]),
        warp=turned if kind == "warp" else None,
        blur_sigma=np.ones((1, 3), np.float32) if kind == "blur" else None,
        window=np.array([[[-1000, 1000]]], np.float32),
        brightness=np.zeros(1, np.float32),
        contrast=np.ones(1, np.float32),
        gamma=np.ones(1, np.float32),
        noise_sigma=np.zeros(1, np.float32),
        noise_key=np.zeros(1, np.uint64),
        coarse_shape=np.rint(np.array([shape]) / (2, 1.5, 1.5)).astype(np.int64) if kind == "coarse" else None,
    )


def timed(name: str, shape: Triple, kind: str) -> Callable[[], float]:
    """What one execution takes in ms."""
    plan = plan_of(shape, kind)
    has = {f"has_{word}": kind == word for word in ("warp", "blur", "coarse")}
    pipeline = open_pipeline(name, "cpu", PipelineSpec(1, 1, 1, -1024.0, has_flip=True, num_threads=1, **has))
    slot = [synthetic_volume(shape, 0)[None]]

    def once() -> float:
        started = time.perf_counter()
        pipeline.execute(slot, plan)
        return 1e3 * (time.perf_counter() - started)

    return once


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    words = parser.parse_args()
    for work, (shape, kind) in WORKS.items():
        values = alternate({name: timed(name, shape, kind) for name in ("numba", "dali")}, num_rounds=words.rounds)
        rows = [row_of(work, f"ctload {name}", "threads=1", "time", "ms", times) for name, times in values.items()]
        ratios = paired_ratios(values["dali"], values["numba"])
        rows.append(row_of(work, "ctload dali / ctload numba", "threads=1", "ratio", "x", ratios))
        append_rows("loading", rows)


if __name__ == "__main__":
    main()
