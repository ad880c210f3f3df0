"""The reference pipeline: plans executed in plain NumPy, step by step as ctload/plan.py has them.

Slow and short: the oracle of the other pipelines, and what runs where DALI is not installed.
"""

import numpy as np

from ctload.geometry import Triple
from ctload.pipeline.photometric_reference import photometric_volume
from ctload.pipeline.spec import PipelineSpec, blur_radius
from ctload.plan import BatchPlan


def flip_volume(volume: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """`volume` (D, H, W) mirrored along the axes whose `flip` (3,) is True."""
    return np.flip(volume, tuple(np.flatnonzero(flip).tolist()))


def warp_volume(volume: np.ndarray, warp: np.ndarray, fill_value: float) -> np.ndarray:
    """Trilinear resampling on the volume's own grid; outside, values are interpolated towards `fill_value`.

    Equal to scipy.ndimage.affine_transform(order=1, mode="grid-constant") of the matrix moved from voxel corners to
    voxel centres.

    Args:
        volume: (D, H, W).
        warp: (3, 4): index_in + 0.5 = A (index_out + 0.5) + t, (z, y, x).
        fill_value: In stored units.

    Returns:
        (D, H, W) float32, computed in float64, one slice at a time.
    """
    padded = np.pad(volume.astype(np.float64), 1, constant_values=fill_value)
    out = np.empty(volume.shape, np.float32)
    linear, offset = warp[:, :3].astype(np.float64), warp[:, 3].astype(np.float64)
    in_plane = np.indices((1, *volume.shape[1:]), np.float64).reshape(3, -1) + 0.5
    for z in range(volume.shape[0]):
        position = linear @ (in_plane + np.array([[z], [0], [0]])) + offset[:, None] - 0.5
        out[z] = _trilinear(padded, position).reshape(volume.shape[1:])
    return out


def _trilinear(padded: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values at `position` (3, n), in indices of the volume without its border of one voxel of fill value."""
    sizes = np.array(padded.shape)[:, None]
    # One voxel beyond the border all eight neighbours are fill: clipping there changes no value.
    position = np.clip(position, -1, sizes - 2)
    low = np.minimum(np.floor(position).astype(np.int64), sizes - 3)
    weight = position - low
    value = np.zeros(position.shape[1])
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (low[axis] + 1 + corner[axis] for axis in range(3))
        share = np.prod([weight[axis] if corner[axis] else 1 - weight[axis] for axis in range(3)], axis=0)
        value += share * padded[z, y, x]
    return value


def blur_volume(volume: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussian blur, kernel exp(-k**2 / (2 sigma**2)) cut at ceil(3 sigma) and summing to 1, border mirrored.

    Args:
        volume: (D, H, W).
        sigma: (3,) in voxels, 0 leaves that axis alone.

    Returns:
        (D, H, W) float32, computed in float64.
    """
    blurred = volume.astype(np.float64)
    for axis, radius in enumerate(blur_radius(sigma).tolist()):
        if radius == 0:
            continue
        offsets = np.arange(-radius, radius + 1)
        kernel = np.exp(-0.5 * (offsets / float(sigma[axis])) ** 2)
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(blurred, pad, mode="reflect")  # "mirror" of SciPy: the edge voxel stands once
        size = volume.shape[axis]
        blurred = sum(
            weight * np.take(padded, np.arange(k, k + size), axis=axis)
            for k, weight in enumerate(kernel / kernel.sum())
        )
    return np.asarray(blurred, np.float32)


def geometry(volume: np.ndarray, plan: BatchPlan, study: int, fill_value: float) -> np.ndarray:
    """Flip, warp and blur of one stored channel of one study: (D, H, W) int16 -> int16 or float32."""
    volume = flip_volume(volume, plan.flip[study])
    if plan.warp is not None:
        volume = warp_volume(volume, plan.warp[study], fill_value)
    if plan.blur_sigma is not None:
        volume = blur_volume(volume, plan.blur_sigma[study])
    return volume


class ReferencePipeline:
    """See Pipeline."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec

    def allocate(self, num_voxels: int) -> np.ndarray:
        return np.empty(num_voxels, np.int16)

    def execute(self, slot: np.ndarray, plan: BatchPlan) -> np.ndarray:
        num_windows = plan.window.shape[1]
        shape: Triple = slot.shape[2:]
        out = np.empty((slot.shape[0], slot.shape[1] * num_windows, *shape), np.float32)
        for study in range(slot.shape[0]):
            for channel in range(slot.shape[1]):
                volume = geometry(slot[study, channel], plan, study, self.spec.fill_value)
                for window in range(num_windows):
                    at = channel * num_windows + window
                    out[study, at] = photometric_volume(volume, plan, study, at, window)
        return out

    def close(self) -> None:
        return None


def open_reference(spec: PipelineSpec) -> ReferencePipeline:
    """A reference pipeline for batches as `spec` says."""
    return ReferencePipeline(spec)
