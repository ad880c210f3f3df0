"""Where the voxels of a stored volume lie on the source: size, alignment, centre crop and padding of each axis.

What enters: the shape and spacing of a canonical volume, and a Preset. What leaves: one Axis per dimension, its taps
for the resampler, and the affine of the result. No voxel is touched here.
"""

import math
from dataclasses import dataclass

import numpy as np

from ctload.geometry import Triple, spacing_of
from ctload.storage.preset import Preset
from ctload.voxels.interpolation import Taps


@dataclass(frozen=True)
class Axis:
    """One axis of the stored grid: source index = origin + step * (index of the stored voxel).

    Attributes:
        num_source: Voxels of the source along this axis.
        step, origin: In source voxels; `origin` is where the first voxel that is kept after the crop lies.
        num_kept: Voxels that are interpolated.
        pad_before, pad_after: Voxels of fill value around them.
    """

    num_source: int
    step: float
    origin: float
    num_kept: int
    pad_before: int
    pad_after: int

    @property
    def is_identity(self) -> bool:
        return self.step == 1 and self.origin == int(self.origin)


def axes_of(shape: Triple, affine: np.ndarray, preset: Preset) -> tuple[Axis, Axis, Axis]:
    """The stored grid of a canonical volume.

    Args:
        shape: (D, H, W) in voxels.
        affine: (4, 4), voxel index (z, y, x) -> RAS+ mm.
        preset: What the store contains.
    """
    spacing_mm = spacing_of(affine)
    wanted_mm = preset.spacing_mm or spacing_mm
    wanted_size = preset.grid or (None, None, None)
    z, y, x = (
        _cropped(size, *_resampled(size, spacing_mm[axis], wanted_mm[axis], preset.align), wanted_size[axis])
        for axis, size in enumerate(shape)
    )
    return z, y, x


def _resampled(size: int, old_mm: float, new_mm: float, align: str) -> tuple[int, float, float]:
    """Size, step and origin of an axis before the crop; see Preset.align."""
    # The value of a size is rounded to 1e-6 before it is rounded to a whole number: spacings are float32 in many
    # files, and 41 * 2.5 / 3 must not depend on the last bit. Halves go to the even number, as in NumPy.
    if old_mm == new_mm:
        return size, 1.0, 0.0
    if align == "first_voxel":
        return round(round((size - 1) * old_mm / new_mm + 1, 6)), new_mm / old_mm, 0.0
    if align == "edges":
        num_out = max(1, math.floor(round(size * old_mm / new_mm, 6)))
        step = size / num_out
        return num_out, step, 0.5 * step - 0.5
    num_out = max(1, round(round(size * old_mm / new_mm, 6)))
    step = new_mm / old_mm
    return num_out, step, 0.5 * (size - 1) - 0.5 * step * (num_out - 1)


def _cropped(num_source: int, num_out: int, step: float, origin: float, wanted: int | None) -> Axis:
    """Centre crop to start n // 2 - wanted // 2, or padding of (wanted - n) // 2 before, as MONAI's
    CenterSpatialCrop and SpatialPad."""
    if wanted is None:
        wanted = num_out
    start = max(num_out // 2 - wanted // 2, 0)
    missing = max(wanted - num_out, 0)
    return Axis(
        num_source,
        step,
        origin + step * start,
        num_kept=min(num_out, wanted),
        pad_before=missing // 2,
        pad_after=missing - missing // 2,
    )


def taps_of(axis: Axis, *, antialias: bool) -> Taps:
    """What each kept voxel takes from the source, with border padding.

    Without antialias, or where the grid gets finer, the two nearest voxels (trilinear). With it, a triangle of half
    width `step` source voxels, normalised (the antialiased linear filter of PIL, torch and DALI; like theirs, the
    centroid of its samples lies up to 0.09 source voxels beside the voxel it stands for).
    """
    centre = axis.origin + axis.step * np.arange(axis.num_kept)  # (n_out,) source voxels
    radius = max(axis.step, 1.0) if antialias else 1.0
    first = np.ceil(centre - radius).astype(np.int64)
    if radius == 1.0:
        first = np.floor(centre).astype(np.int64)
    num_taps = 2 if radius == 1.0 else math.ceil(2 * radius) + 1
    index = first[:, None] + np.arange(num_taps)
    weight = np.clip(1 - np.abs(index - centre[:, None]) / radius, 0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    return Taps(np.clip(index, 0, axis.num_source - 1), weight)


def nearest_of(axis: Axis) -> np.ndarray:
    """(num_kept,) int64, the source voxel nearest to each kept one; exact halves go to the even index."""
    centre = np.rint(np.round(axis.origin + axis.step * np.arange(axis.num_kept), 6)).astype(np.int64)
    return np.clip(centre, 0, axis.num_source - 1)


def grid_affine(affine: np.ndarray, axes: tuple[Axis, Axis, Axis]) -> np.ndarray:
    """The affine of the stored grid, (4, 4) float64, padding included."""
    moved = np.array(affine, np.float64)
    for column, axis in enumerate(axes):
        moved[:3, 3] += affine[:3, column] * (axis.origin - axis.step * axis.pad_before)
        moved[:3, column] = affine[:3, column] * axis.step
    return moved
