"""Coarsening: a volume as a scan with thicker slices and larger pixels would have it, on its own grid.

Averaged onto a coarser grid with the antialiasing triangle of ctload/voxels/grid.py, then interpolated back linearly,
both over the same extent with borders repeated. Enters one float32 volume, leaves another.
"""

import numpy as np

from ctload.voxels.grid import Axis, taps_of
from ctload.voxels.interpolation import Taps, interpolate, interpolate_reference


def coarse_taps(size: int, coarse: int) -> tuple[Taps, Taps]:
    """Taps of one axis from `size` voxels to `coarse` <= size of them, and back."""
    down, up = size / coarse, coarse / size
    return (
        taps_of(Axis(size, down, 0.5 * down - 0.5, coarse, 0, 0), antialias=True),
        taps_of(Axis(coarse, up, 0.5 * up - 0.5, size, 0, 0), antialias=False),
    )


def coarsen(volume: np.ndarray, coarse_shape: np.ndarray) -> np.ndarray:
    """A volume (D, H, W) float32 as seen through a grid of `coarse_shape` (3,), (D, H, W) float32."""
    taps = [coarse_taps(size, int(coarse)) for size, coarse in zip(volume.shape, coarse_shape, strict=True)]
    (down_z, up_z), (down_y, up_y), (down_x, up_x) = taps
    return interpolate(interpolate(volume, down_z, down_y, down_x), up_z, up_y, up_x)


def coarsen_reference(volume: np.ndarray, coarse_shape: np.ndarray) -> np.ndarray:
    """The same in plain NumPy, float32."""
    taps = [coarse_taps(size, int(coarse)) for size, coarse in zip(volume.shape, coarse_shape, strict=True)]
    (down_z, up_z), (down_y, up_y), (down_x, up_x) = taps
    coarse = interpolate_reference(volume, down_z, down_y, down_x)
    return interpolate_reference(coarse, up_z, up_y, up_x).astype(np.float32)
