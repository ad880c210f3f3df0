"""PipelineSpec and Pipeline: what a pipeline is told once, and the one interface all of them have.

A pipeline turns a slot of stored voxels and the BatchPlan of the slot's studies into [0, 1]; it draws nothing.
ctload/planning/plan.py fixes what each number of a plan does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ctload.planning.plan import BatchPlan


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
        has_zoom, has_coarse: Whether boxes are resized, and whether any plan may coarsen.
        num_labels: L, label maps per study, after the channels in a slot.
    """

    max_batch: int
    num_channels: int
    num_windows: int
    fill_value: float
    has_flip: bool
    has_warp: bool
    has_blur: bool
    num_threads: int = 1
    has_zoom: bool = False
    has_coarse: bool = False
    num_labels: int = 0


class Pipeline(Protocol):
    """Executes plans. Used by one thread at a time."""

    @property
    def spec(self) -> PipelineSpec: ...

    def allocate(self, num_voxels: int) -> np.ndarray:
        """(num_voxels,) int16: memory for a slot, of the kind that this pipeline reads fastest."""
        ...

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        """Execute one plan.

        Args:
            slot: Of each study its box, (C + L, d, h, w) int16, part of a slot. Free for other use as soon as this
                returns.
            plan: One view of the B studies, its crop_shape is (D, H, W).

        Returns:
            (B, C * W, D, H, W) float32 in [0, 1], channel-major. It stays valid for as long as it is referenced.
        """
        ...

    def execute_labels(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        """The label maps of a plan, by nearest neighbour, with 0 outside the box; arguments as in `execute`.

        Returns:
            (B, L, D, H, W) int16. It stays valid for as long as it is referenced.
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
    others = tuple(in_stored_units(view, scales) for view in plan.other_views)
    window = ((plan.window.astype(np.float64) - offset) / scale).astype(np.float32)
    return replace(plan, window=window, other_views=others)


def box_matrices(plan: BatchPlan) -> np.ndarray:
    """Zoom, flip and warp of a plan as one map: voxel centre of the output -> voxel centre of the box.

    All keep the half-voxel convention (the corner of the first voxel is 0), so a flip is x -> n - x.

    Returns:
        (B, 3, 4) float64, A|t in (z, y, x): index_in + 0.5 = A (index_out + 0.5) + t.
    """
    matrices = np.tile(np.eye(3, 4), (plan.batch_size, 1, 1)) if plan.warp is None else plan.warp.astype(np.float64)
    matrices = matrices * np.where(plan.flip, -1.0, 1.0)[:, :, None]
    matrices[:, :, 3] += np.where(plan.flip, np.asarray(plan.crop_shape, np.float64), 0.0)
    if plan.zoom is not None:
        matrices *= plan.zoom[:, :, :1]
        matrices[:, :, 3] += plan.zoom[:, :, 1]
    return matrices
