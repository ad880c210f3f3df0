"""The reference pipeline: plans executed in plain NumPy, step by step as ctload/planning/plan.py has them.

Slow and short: the oracle of the other pipelines, and what runs where DALI is not installed.
"""

from collections.abc import Sequence

import numpy as np

from ctload.pipeline.photometric_reference import photometric_volume
from ctload.pipeline.spec import PipelineSpec, blur_radius
from ctload.planning.plan import BatchPlan
from ctload.voxels.coarsening import coarsen_reference


def flip_volume(volume: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """`volume` (D, H, W) mirrored along the axes whose `flip` (3,) is True."""
    return np.flip(volume, tuple(np.flatnonzero(flip).tolist()))


def warp_volume(
    volume: np.ndarray, warp: np.ndarray, fill_value: float, shape: Sequence[int] | None = None
) -> np.ndarray:
    """Trilinear resampling; outside the volume, values are interpolated towards `fill_value`.

    Equal to scipy.ndimage.affine_transform(order=1, mode="grid-constant") of the matrix moved from voxel corners to
    voxel centres.

    Args:
        volume: (D, H, W).
        warp: (3, 4): index_in + 0.5 = A (index_out + 0.5) + t, (z, y, x).
        fill_value: In stored units.
        shape: (D, H, W) of the output; None is the volume's own.

    Returns:
        (D, H, W) float32, computed in float64, one slice at a time.
    """
    padded = np.pad(volume.astype(np.float64), 1, constant_values=fill_value)
    out = np.empty(volume.shape if shape is None else tuple(shape), np.float32)
    linear, offset = warp[:, :3].astype(np.float64), warp[:, 3].astype(np.float64)
    in_plane = np.indices((1, *out.shape[1:]), np.float64).reshape(3, -1) + 0.5
    for z in range(out.shape[0]):
        position = linear @ (in_plane + np.array([[z], [0], [0]])) + offset[:, None] - 0.5
        out[z] = _trilinear(padded, position).reshape(out.shape[1:])
    return out


def zoomed_warp(plan: BatchPlan, study: int, box_shape: Sequence[int]) -> np.ndarray:
    """Warp and zoom of a study whose box was flipped already: (3, 4), output -> flipped box.

    A zoom i = a o + b from the unflipped output to the box is i' = a o' + (m - a n - b) between their mirror images,
    with n voxels of the output and m of the box.
    """
    warp = np.eye(3, 4) if plan.warp is None else plan.warp[study].astype(np.float64)
    if plan.zoom is None:
        return warp
    scale, shift = plan.zoom[study].T
    mirrored = np.asarray(box_shape) - scale * np.asarray(plan.crop_shape) - shift
    zoom = np.eye(4)
    zoom[:3, :3], zoom[:3, 3] = np.diag(scale), np.where(plan.flip[study], mirrored, shift)
    return (zoom @ np.vstack([warp, [0, 0, 0, 1]]))[:3]


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


def warp_labels(labels: np.ndarray, warp: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The label of the voxel that each output voxel's centre falls into; 0 outside.

    Args:
        labels: (d, h, w).
        warp: (3, 4), as for warp_volume.
        shape: (D, H, W) of the output.
    """
    out = np.zeros(tuple(shape), labels.dtype)
    centres = np.indices(out.shape, np.float64).reshape(3, -1) + 0.5
    index = np.floor(warp[:, :3] @ centres + warp[:, 3:]).astype(np.int64)
    inside = ((index >= 0) & (index < np.array(labels.shape)[:, None])).all(axis=0)
    out.reshape(-1)[inside] = labels[tuple(index[:, inside])]
    return out


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
    """Geometry of one stored channel of one study: its box (d, h, w) int16 -> (D, H, W) int16 or float32."""
    volume = flip_volume(volume, plan.flip[study])
    if plan.warp is not None or plan.zoom is not None:
        volume = warp_volume(volume, zoomed_warp(plan, study, volume.shape), fill_value, plan.crop_shape)
    if plan.blur_sigma is not None:
        volume = blur_volume(volume, plan.blur_sigma[study])
    if plan.coarse_shape is not None:
        volume = coarsen_reference(volume, plan.coarse_shape[study])
    return volume


def label_geometry(labels: np.ndarray, plan: BatchPlan, study: int) -> np.ndarray:
    """Geometry of one label map of one study: its box (d, h, w) int16 -> (D, H, W) int16."""
    labels = flip_volume(labels, plan.flip[study])
    if plan.warp is None and plan.zoom is None:
        return labels
    return warp_labels(labels, zoomed_warp(plan, study, labels.shape), plan.crop_shape)


class ReferencePipeline:
    """See Pipeline."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec

    def allocate(self, num_voxels: int) -> np.ndarray:
        return np.empty(num_voxels, np.int16)

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        num_channels, num_windows = self.spec.num_channels, plan.window.shape[1]
        out = np.empty((len(slot), num_channels * num_windows, *plan.crop_shape), np.float32)
        for study, box in enumerate(slot):
            for channel in range(num_channels):
                volume = geometry(box[channel], plan, study, self.spec.fill_value)
                for window in range(num_windows):
                    at = channel * num_windows + window
                    out[study, at] = photometric_volume(volume, plan, study, at, window)
        return out

    def execute_labels(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        out = np.empty((len(slot), self.spec.num_labels, *plan.crop_shape), np.int16)
        for study, box in enumerate(slot):
            for number in range(self.spec.num_labels):
                out[study, number] = label_geometry(box[self.spec.num_channels + number], plan, study)
        return out

    def close(self) -> None:
        return None


def open_reference(spec: PipelineSpec) -> ReferencePipeline:
    """A reference pipeline for batches as `spec` says."""
    return ReferencePipeline(spec)
