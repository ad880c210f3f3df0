"""A short soak: the command for the long one works, and finds what it is for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak import SHAPE, run_soak
from ctload.pipeline.numba import NumbaPipeline
from ctload.planning.plan import BatchPlan
from ctload.testing import synthetic_store


def test_a_short_soak_is_right_and_flat(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm (Linux)")
    store = synthetic_store(tmp_path / "s.zarr", 8, SHAPE, labels=("organs",))
    report = run_soak(store, 120, "numba", checked_every=40)
    assert (report.num_batches, report.num_checked) == (120, 3)
    assert report.largest_error < 1e-3
    assert report.grown_mb < 50


def test_a_pipeline_that_hands_out_memory_it_uses_again_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm (Linux)")
    execute, kept = NumbaPipeline.execute, []

    def into_one_buffer(self: NumbaPipeline, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        right = execute(self, slot, plan)
        kept[:] = kept or [right.copy()]
        kept[0][:] = right
        return kept[0]

    monkeypatch.setattr(NumbaPipeline, "execute", into_one_buffer)
    store = synthetic_store(tmp_path / "s.zarr", 8, SHAPE, labels=("organs",))
    assert run_soak(store, 12, "numba", checked_every=4).largest_error > 1e-2
