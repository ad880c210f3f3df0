"""The one resampler: separable interpolation of a volume from tables of taps, in numba.

What enters: a C-contiguous (D, H, W) volume and, per axis, which source voxels each output voxel takes and with
which weights. What leaves: float32. It refuses to know spacings, units and alignments; `ctload.voxels.grid` makes the
tables. The slow twin that says the same in NumPy is `interpolate_reference`.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Taps:
    """What each output voxel of one axis takes from the source.

    Attributes:
        index: (n_out, T) int64, source voxels, already clamped into the axis (border padding). The T indices of a
            row span fewer than T voxels.
        weight: (n_out, T) float64; each row sums to 1.
    """

    index: np.ndarray
    weight: np.ndarray


def interpolate(source: np.ndarray, z: Taps, y: Taps, x: Taps) -> np.ndarray:
    """Resample a volume; the sum over taps is taken in float64.

    Args:
        source: (D, H, W), C-contiguous, any real dtype.
        z: Taps along the first axis.
        y: Taps along the second.
        x: Taps along the third.

    Returns:
        (len(z.index), len(y.index), len(x.index)) float32.
    """
    shape = (len(z.index), len(y.index), len(x.index))
    out = np.empty(shape, np.float32)
    rows = np.empty((y.index.shape[1], shape[2]), np.float64)
    planes = np.empty((z.index.shape[1], *shape[1:]), np.float64)
    _interpolate(source, z.index, z.weight, y.index, y.weight, x.index, x.weight, rows, planes, out)
    return out


def interpolate_reference(source: np.ndarray, z: Taps, y: Taps, x: Taps) -> np.ndarray:
    """The same in plain NumPy, axis by axis, (D, H, W) float64: oracle and explanation."""
    values = source.astype(np.float64)
    for axis, taps in enumerate((z, y, x)):
        moved = np.moveaxis(values, axis, -1)
        moved = (moved[..., taps.index] * taps.weight).sum(axis=-1)
        values = np.moveaxis(moved, -1, axis)
    return values


@njit(cache=True, nogil=True)
def _interpolate(source, z_index, z_weight, y_index, y_weight, x_index, x_weight, rows, planes, out):
    # `rows` and `planes` are rings: source row i lives in slot i % T. The taps of one output voxel span fewer than T
    # source voxels, so they never collide, and neighbours that share taps do not interpolate them twice.
    plane_taps = z_index.shape[1]
    held_plane = np.full(plane_taps, -1, np.int64)
    for z in range(out.shape[0]):
        for tap in range(plane_taps):
            source_z = z_index[z, tap]
            slot = source_z % plane_taps
            if held_plane[slot] != source_z:
                _plane(source[source_z], y_index, y_weight, x_index, x_weight, rows, planes[slot])
                held_plane[slot] = source_z
        _weigh_planes(planes, z_index[z], z_weight[z], out[z])


@njit(cache=True, nogil=True)
def _plane(image, y_index, y_weight, x_index, x_weight, rows, plane):
    row_taps = y_index.shape[1]
    held_row = np.full(row_taps, -1, np.int64)
    for y in range(plane.shape[0]):
        plane[y, :] = 0.0
        for tap in range(row_taps):
            weight = y_weight[y, tap]
            if weight == 0.0:
                continue
            source_y = y_index[y, tap]
            slot = source_y % row_taps
            if held_row[slot] != source_y:
                _row(image[source_y], x_index, x_weight, rows[slot])
                held_row[slot] = source_y
            for x in range(plane.shape[1]):
                plane[y, x] += weight * rows[slot, x]


@njit(cache=True, nogil=True)
def _row(line, x_index, x_weight, row):
    if x_index.shape[1] == 2:
        for x in range(row.shape[0]):
            row[x] = line[x_index[x, 0]] * x_weight[x, 0] + line[x_index[x, 1]] * x_weight[x, 1]
        return
    for x in range(row.shape[0]):
        total = 0.0
        for tap in range(x_index.shape[1]):
            total += line[x_index[x, tap]] * x_weight[x, tap]
        row[x] = total


@njit(cache=True, nogil=True)
def _weigh_planes(planes, index, weight, out):
    taps = index.shape[0]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            total = 0.0
            for tap in range(taps):
                total += weight[tap] * planes[index[tap] % taps, y, x]
            out[y, x] = total
