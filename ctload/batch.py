"""Batch: what a Loader gives. Plain data; which array library `volume` is of was the caller's choice."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctload.plan import BatchPlan


@dataclass(frozen=True)
class Batch:
    """One rank's batch.

    Attributes:
        volume: (B, C, D, H, W) float32 in [0, 1]; C = stored channels x windows, channel-major.
        study: B study ids.
        rows: (B,) int64, rows of the loader's Studies.
        affine: (B, 4, 4) float64, voxel index (z, y, x) of `volume` -> RAS+ mm, flips and warp included.
        unit: The text unit of this batch; "" where there is none.
        plan: What was drawn for it.
        num_replaced: How many studies were corrupt and replaced (only with on_corrupt="replace").
    """

    volume: Any
    study: tuple[str, ...]
    rows: np.ndarray
    affine: np.ndarray
    unit: str
    plan: BatchPlan
    num_replaced: int = 0
