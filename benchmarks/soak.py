"""`python -m benchmarks.soak`: many small batches through one loader; what is delivered stays right, memory stays flat.

A store of made-up studies, every kind of augmentation, two views and a label map. Every 500th batch is held against the
NumPy reference. The row says by how many MB the process grew after its first 500 batches.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ctload
from benchmarks.rows import append_rows, row_of
from ctload.testing import synthetic_store

SHAPE = (10, 40, 40)
CHECKED_EVERY = 500
AUGMENT = ctload.Augment(
    flip=(0, 0.5, 0.5), rotate_deg=(10, 0, 0), blur_sigma=(0, 1), blur_probability=0.3, coarsen=(2, 1, 1),
    coarsen_probability=0.3, contrast=(0.8, 1.2), gamma=(0.8, 1.2), noise_sigma=(0, 0.05), window_jitter_hu=20,
)  # fmt: skip


@dataclass(frozen=True)
class SoakReport:
    """What a soak found.

    Attributes:
        num_batches: Delivered.
        num_checked: Held against the reference.
        largest_error: Of those, in units of the window.
        grown_mb: Resident memory at the end less that after the first CHECKED_EVERY batches.
        seconds: Of all batches.
    """

    num_batches: int
    num_checked: int
    largest_error: float
    grown_mb: float
    seconds: float


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def loader_of(store: ctload.Store, pipeline: str) -> ctload.Loader:
    return ctload.Loader(
        store.studies,
        sampler=ctload.ShuffleSampler(batch_size=2, seed=0),
        crop=ctload.RandomCrop((8, 32, 32)),
        augment=AUGMENT,
        pipeline=pipeline,
        num_views=2,
        labels=("organs",),
        num_threads=1,
    )


def run_soak(store: ctload.Store, num_batches: int, pipeline: str, *, checked_every: int = CHECKED_EVERY) -> SoakReport:
    """Run `num_batches` batches and check some."""
    done, num_checked, error, first_mb = 0, 0, 0.0, 0.0
    started = time.perf_counter()
    with loader_of(store, pipeline) as loader, loader_of(store, "reference") as oracle:
        while done < num_batches:
            for batch in loader:
                if done % checked_every == 0:
                    error = max(error, _error(oracle, batch))
                    num_checked += 1
                done += 1
                if done == min(checked_every, num_batches):
                    first_mb = resident_mb()
                if done == num_batches:
                    break
    return SoakReport(done, num_checked, error, resident_mb() - first_mb, time.perf_counter() - started)


def _error(oracle: ctload.Loader, batch: ctload.Batch) -> float:
    """Largest difference of a batch from the reference's at the same place; infinite where labels differ widely."""
    state = oracle.state_dict() | {"epoch": batch.plan.epoch, "step": batch.plan.step}
    oracle.load_state_dict(state)
    expected = next(iter(oracle))
    largest = 0.0
    for got, right in zip(batch.views, expected.views, strict=True):
        largest = max(largest, float(np.abs(got.volume - right.volume).max()))
        if (got.labels["organs"] != right.labels["organs"]).mean() > 0.01:
            return float("inf")
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--pipeline", default="auto", help="auto, numba, dali or reference")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic_store(Path(folder) / "soak.zarr", 64, SHAPE, labels=("organs",))
        report = run_soak(store, words.batches, words.pipeline)
    print(report)
    config = f"batches={report.num_batches} batch=2 views=2 crop=8x32x32 checked={report.num_checked}"
    provider = f"ctload {words.pipeline}"
    rows = [
        row_of("soak of small batches", provider, config, "memory growth", "MB", [report.grown_mb]),
        row_of("soak of small batches", provider, config, "largest error", "window", [report.largest_error]),
        row_of("soak of small batches", provider, config, "rate", "batches/s", [report.num_batches / report.seconds]),
    ]
    append_rows("loading", rows)
    if report.largest_error > 1e-3:
        raise SystemExit("a batch differed from the reference by more than 1e-3 of the window")


if __name__ == "__main__":
    main()
