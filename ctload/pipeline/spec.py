"""PipelineSpec and Pipeline: what a pipeline is told once, and the one interface all of them have.

A pipeline turns a slot of stored voxels and the BatchPlan of the slot's studies into [0, 1]; it draws nothing.
ctload/plan.py fixes what each number of a plan does.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ctload.plan import BatchPlan


@dataclass(frozen=True)
class PipelineSpec:
    """What stays the same over all batches of a loader.

    Attributes:
        max_batch: Largest B of a batch.
        num_channels: C, stored channels per study.
        num_windows: W.
        fill_value: Stored value outside a volume; the warp interpolates towards it.
        has_flip, has_warp, has_blur: Whether any plan may ask for it. What is False costs nothing.
        num_threads: CPU threads of the pipeline, >= 1.
    """

    max_batch: int
    num_channels: int
    num_windows: int
    fill_value: float
    has_flip: bool
    has_warp: bool
    has_blur: bool
    num_threads: int = 1


class Pipeline(Protocol):
    """Executes plans. Used by one thread at a time."""

    def allocate(self, num_voxels: int) -> np.ndarray:
        """(num_voxels,) int16: memory for a slot, of the kind that this pipeline reads fastest."""
        ...

    def execute(self, slot: np.ndarray, plan: BatchPlan) -> Any:
        """Execute one plan.

        Args:
            slot: (B, C, D, H, W) int16, C-contiguous. Free for other use as soon as this returns.
            plan: The plan of the B studies, its crop_shape is (D, H, W).

        Returns:
            (B, C * W, D, H, W) float32 in [0, 1], channel-major. It stays valid for as long as it is referenced.
        """
        ...

    def close(self) -> None:
        """Release threads and device memory. Arrays that were returned stay valid."""
        ...


def blur_radius(sigma: np.ndarray) -> np.ndarray:
    """Radius in voxels of the blur kernel of each `sigma`: ceil(3 sigma), 0 where sigma is 0; int64."""
    return np.ceil(3.0 * np.asarray(sigma, np.float64)).astype(np.int64)


def in_stored_units(plan: BatchPlan, scales: np.ndarray) -> BatchPlan:
    """A drawn plan as a pipeline executes it: with windows in stored units instead of HU.

    Args:
        plan: Of B studies.
        scales: (B, 2) float64, scale and offset of each study: value in HU = stored * scale + offset.
    """
    if (scales == (1, 0)).all():
        return plan
    scale, offset = scales[:, 0, None, None], scales[:, 1, None, None]
    return replace(plan, window=((plan.window.astype(np.float64) - offset) / scale).astype(np.float32))
