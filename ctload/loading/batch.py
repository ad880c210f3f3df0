"""Batch: what a Loader gives. Plain data; which array library `volume` is of was the caller's choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctload.planning.plan import BatchPlan


@dataclass(frozen=True)
class View:
    """One view of every study of a batch.

    Attributes:
        volume: (B, C, D, H, W) float32 in [0, 1].
        affine: (B, 4, 4) float64, voxel index (z, y, x) of `volume` -> RAS+ mm, zoom, flips and warp included.
        labels: (B, D, H, W) int16 of each label map by its name, on the same grid.
    """

    volume: Any
    affine: np.ndarray
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """One rank's batch.

    Attributes:
        volume: (B, C, D, H, W) float32 in [0, 1]; C = stored channels x windows, channel-major. That of view 0.
        study: B study ids.
        rows: (B,) int64, rows of the loader's Studies.
        affine: (B, 4, 4) float64, voxel index (z, y, x) of `volume` -> RAS+ mm, zoom, flips and warp included.
        unit: The text unit of this batch; "" where there is none.
        plan: What was drawn for it.
        num_replaced: How many studies were corrupt and replaced (only with on_corrupt="replace").
        views: Every view of the same studies, of one read: num_views of the loader, view 0 first.
        labels: (B, D, H, W) int16 of each of the loader's label maps by its name: nearest neighbour through the same
            crop, zoom, flip and warp as `volume`, 0 outside. Those of view 0.
    """

    volume: Any
    study: tuple[str, ...]
    rows: np.ndarray
    affine: np.ndarray
    unit: str
    plan: BatchPlan
    num_replaced: int = 0
    views: tuple[View, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)


def batch_affine(affines: np.ndarray, plan: BatchPlan) -> np.ndarray:
    """Affines of executed crops: crop, zoom, flip and warp included.

    Args:
        affines: (B, 4, 4), voxel index (z, y, x) of the stored volumes -> RAS+ mm.
        plan: What was done to them.

    Returns:
        (B, 4, 4) float64, voxel index (z, y, x) of the batch's volumes -> RAS+ mm.
    """
    to_flipped = np.tile(np.eye(4), (plan.batch_size, 1, 1))
    if plan.warp is not None:
        linear, shift = plan.warp[:, :, :3].astype(np.float64), plan.warp[:, :, 3]
        to_flipped[:, :3, :3] = linear
        to_flipped[:, :3, 3] = linear @ np.full(3, 0.5) + shift - 0.5
    to_crop, to_stored = (np.tile(np.eye(4), (plan.batch_size, 1, 1)) for _ in range(2))
    for axis in range(3):
        to_crop[:, axis, axis] = np.where(plan.flip[:, axis], -1, 1)
        to_crop[:, axis, 3] = np.where(plan.flip[:, axis], plan.crop_shape[axis] - 1, 0)
        to_stored[:, axis, 3] = plan.box_start[:, axis]
        if plan.zoom is not None:
            scale, shift = plan.zoom[:, axis].T
            to_stored[:, axis, axis] = scale
            to_stored[:, axis, 3] += 0.5 * scale + shift - 0.5
    return np.asarray(affines, np.float64) @ to_stored @ to_crop @ to_flipped
