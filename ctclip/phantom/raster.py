"""The inner loop: shapes, as rows of numbers, painted one after the other into a volume.

Enters: rows packed by `shape.pack`, a grid. Leaves: HU, organ labels and finding bits, written into arrays the
caller allocates. It knows nothing of anatomy; a later row covers an earlier one, like paint.

A voxel whose centre is farther from a surface than half its diagonal is all in or all out; the others are
sampled on a sub-grid, so that a 3 mm stone in a 6 mm voxel has the partial volume that it should.
"""

import math

import numba
import numpy as np

ELLIPSOID, CAPSULE, COLUMN = 0, 1, 2

# Columns of a row. A capsule keeps its second end in RADII and its two radii in ROTATION[0:2].
KIND = 0
CENTER = 1
RADII = 4
ROTATION = 7
DEFORM = 16
PHASES = 17
HU = 20
TEXTURE = 21
WAVELENGTH = 22
RETICULAR = 23
CLIP = 24  # three numbers of the normal, then the offset: kept where normal . p >= offset
OPACITY = 28
ORGAN = 29  # -1 keeps the label below
FINDING = 30  # bit, -1 for none
NUM_COLUMNS = 31

FAR = 1e6


@numba.njit(cache=True, inline="always")
def _lattice(ix: int, iy: int, iz: int) -> float:
    """A value in [-1, 1) of a lattice point, by an integer hash (multipliers of MurmurHash3's finaliser)."""
    h = (ix * 73856093) ^ (iy * 19349663) ^ (iz * 83492791)
    h &= 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & 0xFFFFFFFF
    h ^= h >> 16
    return h / 2147483648.0 - 1.0


@numba.njit(cache=True)
def value_noise(x: float, y: float, z: float) -> float:
    """Smooth noise in [-1, 1]: random values on the integer lattice, interpolated trilinearly (value noise)."""
    ix, iy, iz = int(math.floor(x)), int(math.floor(y)), int(math.floor(z))
    fx, fy, fz = x - ix, y - iy, z - iz
    total = 0.0
    for corner in range(8):
        dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
        total += weight * _lattice(ix + dx, iy + dy, iz + dz)
    return total


@numba.njit(cache=True)
def _ellipsoid(row: np.ndarray, dx: float, dy: float, dz: float) -> float:
    u = row[ROTATION] * dx + row[ROTATION + 1] * dy + row[ROTATION + 2] * dz
    v = row[ROTATION + 3] * dx + row[ROTATION + 4] * dy + row[ROTATION + 5] * dz
    w = row[ROTATION + 6] * dx + row[ROTATION + 7] * dy + row[ROTATION + 8] * dz
    a, b, c = row[RADII], row[RADII + 1], row[RADII + 2]
    un, vn, wn = u / a, v / b, w / c
    k0 = math.sqrt(un * un + vn * vn + wn * wn)
    amplitude = row[DEFORM]
    if amplitude > 0.0:
        if k0 > 1.0 + 2 * amplitude:
            return (k0 - 1.0 - amplitude) * min(a, b, c)
        bumps = (
            math.sin(2.7 * un + row[PHASES])
            + math.sin(3.1 * vn + row[PHASES + 1])
            + math.sin(2.9 * wn + row[PHASES + 2])
        )
        k0 /= 1.0 + amplitude * bumps / 3.0
    if k0 < 1e-6:
        return -min(a, b, c)
    un, vn, wn = un / a, vn / b, wn / c
    k1 = math.sqrt(un * un + vn * vn + wn * wn)
    return k0 * (k0 - 1.0) / k1


@numba.njit(cache=True)
def _capsule(row: np.ndarray, dx: float, dy: float, dz: float) -> float:
    bx, by, bz = row[RADII] - row[CENTER], row[RADII + 1] - row[CENTER + 1], row[RADII + 2] - row[CENTER + 2]
    length2 = bx * bx + by * by + bz * bz
    t = 0.0 if length2 == 0.0 else min(1.0, max(0.0, (dx * bx + dy * by + dz * bz) / length2))
    ex, ey, ez = dx - t * bx, dy - t * by, dz - t * bz
    radius = row[ROTATION] + t * (row[ROTATION + 1] - row[ROTATION])
    return math.sqrt(ex * ex + ey * ey + ez * ez) - radius


@numba.njit(cache=True)
def _column(row: np.ndarray, dx: float, dy: float, dz: float) -> float:
    """An upright column; DEFORM blends its cross-section from ellipse (0) to squircle (1), PHASES[0] is a waist."""
    half = row[RADII + 2]
    waist = 1.0 + row[PHASES] * (dz / half) ** 2
    u, v = dx / (row[RADII] * waist), dy / (row[RADII + 1] * waist)
    u2, v2 = u * u, v * v
    square = row[DEFORM]
    k = (1.0 - square) * math.sqrt(u2 + v2) + square * math.sqrt(math.sqrt(u2 * u2 + v2 * v2))
    side = -min(row[RADII], row[RADII + 1])
    if k > 1e-6:
        side = math.sqrt(dx * dx + dy * dy) * (1.0 - 1.0 / k)
    return max(side, abs(dz) - half)


@numba.njit(cache=True)
def signed_distance(row: np.ndarray, x: float, y: float, z: float) -> float:
    """About how far (mm) a point lies outside the shape; below 0 inside. Ellipsoids: k0 (k0 - 1) / k1 (I. Quilez)."""
    dx, dy, dz = x - row[CENTER], y - row[CENTER + 1], z - row[CENTER + 2]
    if row[KIND] == ELLIPSOID:
        distance = _ellipsoid(row, dx, dy, dz)
    elif row[KIND] == CAPSULE:
        distance = _capsule(row, dx, dy, dz)
    else:
        distance = _column(row, dx, dy, dz)
    if row[CLIP] != 0.0 or row[CLIP + 1] != 0.0 or row[CLIP + 2] != 0.0:
        beyond = row[CLIP + 3] - (row[CLIP] * x + row[CLIP + 1] * y + row[CLIP + 2] * z)
        distance = max(distance, beyond)
    return distance


@numba.njit(cache=True)
def _half_extent(row: np.ndarray, out: np.ndarray) -> None:
    """Half extents (mm, patient axes) of a box around the shape, about CENTER."""
    for axis in range(3):
        if row[KIND] == ELLIPSOID:
            total = 0.0
            for k in range(3):
                total += (row[ROTATION + 3 * k + axis] * row[RADII + k]) ** 2
            out[axis] = math.sqrt(total) * (1.0 + row[DEFORM])
        elif row[KIND] == CAPSULE:
            out[axis] = abs(row[RADII + axis] - row[CENTER + axis]) + max(row[ROTATION], row[ROTATION + 1])
        else:
            out[axis] = row[RADII + axis] * (1.0 + max(0.0, row[PHASES]) if axis < 2 else 1.0)


@numba.njit(cache=True)
def _coverage(row: np.ndarray, matrix: np.ndarray, x: float, y: float, z: float, half: float, sub: np.ndarray) -> float:
    """Share of the voxel around (x, y, z) that the shape fills."""
    distance = signed_distance(row, x, y, z)
    if distance >= half:
        return 0.0
    if distance <= -half:
        return 1.0
    nz, ny, nx = sub[0], sub[1], sub[2]
    width = 2.0 * half / max(nz, ny, nx) * 0.6
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


@numba.njit(cache=True)
def _paint_voxel(row, coverage, x, y, z, hu, organ, finding):
    """The voxel's new (hu, organ, finding bits) under one shape that covers `coverage` of it."""
    value = row[HU]
    if row[TEXTURE] != 0.0 or row[RETICULAR] != 0.0:
        scale = 1.0 / row[WAVELENGTH]
        noise = value_noise(x * scale + row[PHASES], y * scale + row[PHASES + 1], z * scale + row[PHASES + 2])
        value += row[TEXTURE] * noise
        if row[RETICULAR] > 0.0:
            coverage *= max(0.0, 1.0 - abs(noise) / row[RETICULAR])
    opacity = coverage * row[OPACITY]
    hu = (1.0 - opacity) * hu + opacity * value
    if coverage >= 0.5:
        if row[ORGAN] >= 0.0:
            organ = np.uint8(row[ORGAN])
            finding = np.uint32(0)
        if row[FINDING] >= 0.0:
            finding |= np.uint32(1) << np.uint32(row[FINDING])
    return hu, organ, finding


@numba.njit(cache=True)
def _index_range(row, from_patient, shape, extent, start, stop):
    _half_extent(row, extent)
    for axis in range(3):
        middle = from_patient[axis, 3]
        reach = 0.0
        for k in range(3):
            middle += from_patient[axis, k] * row[CENTER + k]
            reach += abs(from_patient[axis, k]) * extent[k]
        start[axis] = max(0, int(math.floor(middle - reach - 0.5)))
        stop[axis] = min(shape[axis], int(math.ceil(middle + reach + 0.5)) + 1)


@numba.njit(cache=True)
def _samples(row, spacing, sub):
    """Sub-samples per axis: enough that a shape's least radius is met, at least two on a surface, at most four."""
    if row[KIND] == CAPSULE:
        least = min(row[ROTATION], row[ROTATION + 1])
    else:
        least = min(row[RADII], row[RADII + 1], row[RADII + 2])
    for axis in range(3):
        sub[axis] = min(4, max(1, int(math.ceil(1.2 * spacing[axis] / max(least, 0.5)))))
        if spacing[axis] > 1.6 * min(spacing[0], spacing[1], spacing[2]):
            sub[axis] = max(sub[axis], 2)


@numba.njit(cache=True)
def paint(rows, over, to_patient, from_patient, spacing, hu, organs, findings):
    """Paint all rows, in order, into `hu`, `organs` and `findings`.

    Args:
        rows: (N, NUM_COLUMNS) float64.
        over: (N,) int64; bit k set allows the row to paint where the organ label is k.
        to_patient, from_patient: (3, 4) float64, index (z, y, x) <-> patient (x, y, z) mm.
        spacing: (3,) float64 mm, (z, y, x).
        hu: (D, H, W) float32, painted in place.
        organs: (D, H, W) uint8, painted in place.
        findings: (D, H, W) uint32 bits, painted in place.
    """
    extent = np.zeros(3)
    start = np.zeros(3, np.int64)
    stop = np.zeros(3, np.int64)
    sub = np.ones(3, np.int64)
    m = to_patient
    half = 0.5 * math.sqrt(spacing[0] ** 2 + spacing[1] ** 2 + spacing[2] ** 2)
    for n in range(rows.shape[0]):
        row = rows[n]
        _index_range(row, from_patient, hu.shape, extent, start, stop)
        _samples(row, spacing, sub)
        best, best_z, best_y, best_x, is_marked = 0.02, -1, -1, -1, False
        for iz in range(start[0], stop[0]):
            for iy in range(start[1], stop[1]):
                for ix in range(start[2], stop[2]):
                    if (over[n] >> np.int64(organs[iz, iy, ix])) & 1 == 0:
                        continue
                    x = m[0, 0] * iz + m[0, 1] * iy + m[0, 2] * ix + m[0, 3]
                    y = m[1, 0] * iz + m[1, 1] * iy + m[1, 2] * ix + m[1, 3]
                    z = m[2, 0] * iz + m[2, 1] * iy + m[2, 2] * ix + m[2, 3]
                    coverage = _coverage(row, m, x, y, z, half, sub)
                    if coverage <= 0.0:
                        continue
                    if coverage > best:
                        best, best_z, best_y, best_x = coverage, iz, iy, ix
                    is_marked |= coverage >= 0.5
                    hu[iz, iy, ix], organs[iz, iy, ix], findings[iz, iy, ix] = _paint_voxel(
                        row, coverage, x, y, z, hu[iz, iy, ix], organs[iz, iy, ix], findings[iz, iy, ix]
                    )
        if row[FINDING] >= 0.0 and not is_marked and best_z >= 0:
            findings[best_z, best_y, best_x] |= np.uint32(1) << np.uint32(row[FINDING])
