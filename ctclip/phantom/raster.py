"""The inner loop: shapes, as rows of numbers, painted one after the other into a volume.

Enters: rows packed by `shape.pack`, a grid. Leaves: HU, organ labels and finding bits, written into arrays the
caller allocates. It knows nothing of anatomy; a later row covers an earlier one, like paint.

A voxel whose centre is farther from a surface than half its diagonal is all in or all out; the others are
sampled on a sub-grid, so that a 3 mm stone in a 6 mm voxel has the partial volume that it should.
"""

import math
from functools import lru_cache

import numba
import numpy as np

from ctclip.phantom.distance import (
    CAPSULE,
    CENTER,
    COLUMN,
    FINDING,
    HU,
    KIND,
    OPACITY,
    ORGAN,
    PHASES,
    RADII,
    RETICULAR,
    ROTATION,
    TEXTURE,
    WAVELENGTH,
    bounding_box,
    signed_distance,
)
from ctclip.phantom.stream import random_stream

PERIOD, MASK = 32, 31  # of the noise lattice
# The signed distance of an ellipsoid may overstate the true one (at its tips), so steps along a line are shorter.
SAFE_STEP, CAPSULE_STEP = 0.5, 0.9


@lru_cache(maxsize=1)
def noise_table() -> np.ndarray:
    """(32, 32, 32) float32 in [-1, 1): the lattice of the value noise; it repeats every 32 wavelengths."""
    return random_stream(0, "noise table").uniform(-1, 1, (PERIOD, PERIOD, PERIOD)).astype(np.float32)


@numba.njit(cache=True, error_model="numpy")
def value_noise(table: np.ndarray, x: float, y: float, z: float) -> float:
    """Smooth noise in [-1, 1]: random values on the integer lattice, interpolated trilinearly (value noise)."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    x0, y0, z0 = ix & MASK, iy & MASK, iz & MASK
    x1, y1, z1 = (ix + 1) & MASK, (iy + 1) & MASK, (iz + 1) & MASK
    low = (1 - fy) * ((1 - fx) * table[z0, y0, x0] + fx * table[z0, y0, x1])
    low += fy * ((1 - fx) * table[z0, y1, x0] + fx * table[z0, y1, x1])
    high = (1 - fy) * ((1 - fx) * table[z1, y0, x0] + fx * table[z1, y0, x1])
    high += fy * ((1 - fx) * table[z1, y1, x0] + fx * table[z1, y1, x1])
    return (1 - fz) * low + fz * high


@numba.njit(cache=True, error_model="numpy")
def _coverage(row: np.ndarray, matrix: np.ndarray, x: float, y: float, z: float, half: float, sub: np.ndarray) -> float:
    """Share of the voxel around (x, y, z) that the shape fills, from sub[0] x sub[1] x sub[2] points."""
    nz, ny, nx = sub[0], sub[1], sub[2]
    width = 1.2 * half / max(nz, ny, nx)
    total = 0.0
    for a in range(nz):
        oz = (a + 0.5) / nz - 0.5
        for b in range(ny):
            oy = (b + 0.5) / ny - 0.5
            for c in range(nx):
                ox = (c + 0.5) / nx - 0.5
                px = x + matrix[0, 0] * oz + matrix[0, 1] * oy + matrix[0, 2] * ox
                py = y + matrix[1, 0] * oz + matrix[1, 1] * oy + matrix[1, 2] * ox
                pz = z + matrix[2, 0] * oz + matrix[2, 1] * oy + matrix[2, 2] * ox
                total += min(1.0, max(0.0, 0.5 - signed_distance(row, px, py, pz) / width))
    return total / (nz * ny * nx)


@numba.njit(cache=True, error_model="numpy")
def _textured(row, table, coverage, x, y, z):
    """(HU, coverage) of a textured shape at a point."""
    s = 1.0 / row[WAVELENGTH]
    noise = value_noise(table, x * s + row[PHASES], y * s + row[PHASES + 1], z * s + row[PHASES + 2])
    if row[RETICULAR] > 0.0:
        coverage *= max(0.0, 1.0 - abs(noise) / row[RETICULAR])
    return row[HU] + row[TEXTURE] * noise, coverage


@numba.njit(cache=True, error_model="numpy")
def _index_range(row, from_patient, shape, center, extent, start, stop):
    """The half-open box of voxels, [start, stop), that the shape can reach."""
    bounding_box(row, center, extent)
    for axis in range(3):
        middle = from_patient[axis, 3]
        reach = 0.0
        for k in range(3):
            middle += from_patient[axis, k] * center[k]
            reach += abs(from_patient[axis, k]) * extent[k]
        start[axis] = max(0, math.floor(middle - reach - 0.5))
        stop[axis] = min(shape[axis], math.ceil(middle + reach + 0.5) + 1)


@numba.njit(cache=True, error_model="numpy")
def _samples(row, spacing, sub):
    """Sub-samples per axis, 1 to 4: enough to meet a shape's least radius, and 2 along an axis twice another."""
    if row[KIND] == CAPSULE:
        least = min(row[ROTATION], row[ROTATION + 1])
    else:
        least = min(row[RADII], row[RADII + 1], row[RADII + 2])
    for axis in range(3):
        sub[axis] = min(4, max(1, math.ceil(1.2 * spacing[axis] / max(least, 0.5))))
        if spacing[axis] > 2.0 * min(spacing[0], spacing[1], spacing[2]):
            sub[axis] = max(sub[axis], 2)


@numba.njit(cache=True, error_model="numpy", inline="always")
def _paint_line(row, over, table, m, iz, iy, begin, end, half, step_mm, sub, hu, organs, findings, best):
    """Paint one line of voxels along x. Where the surface is far, whole runs are skipped or filled at once.

    `best` keeps (coverage, z, y, x) of the fullest voxel and, last, whether one was half covered.
    """
    step = (CAPSULE_STEP if row[KIND] == CAPSULE else SAFE_STEP) / step_mm
    ix = begin
    while ix < end:
        x = m[0, 0] * iz + m[0, 1] * iy + m[0, 2] * ix + m[0, 3]
        y = m[1, 0] * iz + m[1, 1] * iy + m[1, 2] * ix + m[1, 3]
        z = m[2, 0] * iz + m[2, 1] * iy + m[2, 2] * ix + m[2, 3]
        distance = signed_distance(row, x, y, z)
        run = 1 + int(max(0.0, abs(distance) - half) * step)
        if distance < half:
            share = 1.0 if distance <= -half else _coverage(row, m, x, y, z, half, sub)
            if share > 0.0:
                stop = min(ix + run, end)
                _fill(row, over, table, m, iz, iy, ix, stop, share, hu, organs, findings, best)
        ix += run


@numba.njit(cache=True, error_model="numpy", inline="always")
def _fill(row, over, table, m, iz, iy, begin, end, share, hu, organs, findings, best):
    """Paint the voxels [begin, end) of a line, of each of which the shape fills `share`."""
    is_textured = row[TEXTURE] != 0.0 or row[RETICULAR] != 0.0
    organ = int(row[ORGAN])
    bit = np.uint32(1) << np.uint32(row[FINDING]) if row[FINDING] >= 0.0 else np.uint32(0)
    value, coverage = row[HU], share
    for ix in range(begin, end):
        if (over >> np.int64(organs[iz, iy, ix])) & 1 == 0:
            continue
        if is_textured:
            x = m[0, 0] * iz + m[0, 1] * iy + m[0, 2] * ix + m[0, 3]
            y = m[1, 0] * iz + m[1, 1] * iy + m[1, 2] * ix + m[1, 3]
            z = m[2, 0] * iz + m[2, 1] * iy + m[2, 2] * ix + m[2, 3]
            value, coverage = _textured(row, table, share, x, y, z)
        if coverage > best[0]:
            best[0], best[1], best[2], best[3] = coverage, iz, iy, ix
        mix = coverage * row[OPACITY]
        hu[iz, iy, ix] = (1.0 - mix) * hu[iz, iy, ix] + mix * value
        if coverage < 0.5:
            continue
        best[4] = 1.0
        if organ >= 0:
            organs[iz, iy, ix] = organ
            findings[iz, iy, ix] = 0
        findings[iz, iy, ix] |= bit


@numba.njit(cache=True, error_model="numpy")
def _paint_column(row, over, table, m, start, stop, half, spacing, hu, organs, findings, best):
    """Paint a column. Patient z runs along the slices (`pose` turns about z alone), so one slice serves for all."""
    plane = np.zeros((stop[1] - start[1], stop[2] - start[2]))
    flat = np.array((1, 2, 2))
    for iy in range(start[1], stop[1]):
        for ix in range(start[2], stop[2]):
            x = m[0, 1] * iy + m[0, 2] * ix + m[0, 3]
            y = m[1, 1] * iy + m[1, 2] * ix + m[1, 3]
            distance = signed_distance(row, x, y, row[CENTER + 2])
            share = 1.0 if distance <= -half else 0.0
            if abs(distance) < half:
                share = _coverage(row, m, x, y, row[CENTER + 2], half, flat)
            plane[iy - start[1], ix - start[2]] = share
    for iz in range(start[0], stop[0]):
        z = m[2, 0] * iz + m[2, 3]
        inside = min(1.0, max(0.0, 0.5 + (row[RADII + 2] - abs(z - row[CENTER + 2])) / spacing[0]))
        for iy in range(start[1], stop[1]):
            line = plane[iy - start[1]]
            ix = 0
            while ix < line.shape[0]:
                end = ix + 1
                while end < line.shape[0] and line[end] == line[ix]:
                    end += 1
                if line[ix] * inside > 0.0:
                    begin, stop_x = start[2] + ix, start[2] + end
                    _fill(row, over, table, m, iz, iy, begin, stop_x, line[ix] * inside, hu, organs, findings, best)
                ix = end


@numba.njit(cache=True, error_model="numpy")
def paint(rows, over, table, to_patient, from_patient, spacing, hu, organs, findings):
    """Paint all rows, in order, into `hu`, `organs` and `findings`.

    A finding's shape that fills no voxel by half marks the one that it fills most, so that a small one has a mask.

    Args:
        rows: (N, NUM_COLUMNS) float64.
        over: (N,) int64; bit k set allows the row to paint where the organ label is k.
        table: `noise_table()`.
        to_patient: (3, 4) float64, index (z, y, x) -> patient (x, y, z) mm.
        from_patient: (3, 4) float64, its inverse.
        spacing: (3,) float64 mm, (z, y, x).
        hu: (D, H, W) float32, painted in place.
        organs: (D, H, W) uint8, painted in place.
        findings: (D, H, W) uint32 bits, painted in place.
    """
    center, extent, best = np.zeros(3), np.zeros(3), np.zeros(5)
    start, stop, sub = np.zeros(3, np.int64), np.zeros(3, np.int64), np.ones(3, np.int64)
    half = 0.5 * math.sqrt(spacing[0] ** 2 + spacing[1] ** 2 + spacing[2] ** 2)
    for n in range(rows.shape[0]):
        row = rows[n]
        _index_range(row, from_patient, hu.shape, center, extent, start, stop)
        if np.any(start >= stop):
            continue
        _samples(row, spacing, sub)
        best[0], best[4] = 0.02, 0.0
        if row[KIND] == COLUMN:
            _paint_column(row, over[n], table, to_patient, start, stop, half, spacing, hu, organs, findings, best)
            continue
        for iz in range(start[0], stop[0]):
            for iy in range(start[1], stop[1]):
                _paint_line(
                    row, over[n], table, to_patient, iz, iy, start[2], stop[2], half, spacing[2], sub,
                    hu, organs, findings, best,
                )  # fmt: skip
        if row[FINDING] >= 0.0 and best[4] == 0.0 and best[0] > 0.02:
            findings[int(best[1]), int(best[2]), int(best[3])] |= np.uint32(1) << np.uint32(row[FINDING])
