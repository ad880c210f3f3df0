"""How far a point lies from a shape, for the rasteriser: one row of numbers is one shape.

Enters: a row packed by `shape.Scene`, a point. Leaves: a signed distance in mm, and the extent of a shape. Compiled by
numba; it allocates nothing.
"""

import math

import numba
import numpy as np

ELLIPSOID, CAPSULE, COLUMN = 0, 1, 2

# Columns of a row. A capsule keeps its second end in RADII and its two radii in ROTATION[0:2]; a column keeps the half
# axes of its hole there.
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


@numba.njit(cache=True, error_model="numpy")
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


@numba.njit(cache=True, error_model="numpy")
def _capsule(row: np.ndarray, dx: float, dy: float, dz: float) -> float:
    bx, by, bz = row[RADII] - row[CENTER], row[RADII + 1] - row[CENTER + 1], row[RADII + 2] - row[CENTER + 2]
    length2 = bx * bx + by * by + bz * bz
    t = 0.0 if length2 == 0.0 else min(1.0, max(0.0, (dx * bx + dy * by + dz * bz) / length2))
    ex, ey, ez = dx - t * bx, dy - t * by, dz - t * bz
    radius = row[ROTATION] + t * (row[ROTATION + 1] - row[ROTATION])
    return math.sqrt(ex * ex + ey * ey + ez * ez) - radius


@numba.njit(cache=True, error_model="numpy")
def _squircle(u: float, v: float, square: float) -> float:
    """1 on the outline; `square` blends from ellipse (0) to fourth-power oval (1)."""
    u2, v2 = u * u, v * v
    return (1.0 - square) * math.sqrt(u2 + v2) + square * math.sqrt(math.sqrt(u2 * u2 + v2 * v2))


@numba.njit(cache=True, error_model="numpy")
def _column(row: np.ndarray, dx: float, dy: float, dz: float) -> float:
    """An upright column with an optional hole; DEFORM is the squareness of its cross-section."""
    along = abs(dz) - row[RADII + 2]
    radius = math.sqrt(dx * dx + dy * dy)
    if radius < 1e-6:
        radius = 1e-6
        dx = radius
    side = radius * (1.0 - 1.0 / _squircle(dx / row[RADII], dy / row[RADII + 1], row[DEFORM]))
    if row[ROTATION] > 0.0:
        hole = radius * (1.0 - 1.0 / _squircle(dx / row[ROTATION], dy / row[ROTATION + 1], row[DEFORM]))
        side = max(side, -hole)
    return max(side, along)


@numba.njit(cache=True, error_model="numpy")
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


@numba.njit(cache=True, error_model="numpy")
def bounding_box(row: np.ndarray, middle: np.ndarray, extent: np.ndarray) -> None:
    """Middle and half extents (mm, patient axes) of a box around the shape, written into the two arrays."""
    for axis in range(3):
        middle[axis] = row[CENTER + axis]
        if row[KIND] == ELLIPSOID:
            total = 0.0
            for k in range(3):
                total += (row[ROTATION + 3 * k + axis] * row[RADII + k]) ** 2
            extent[axis] = math.sqrt(total) * (1.0 + row[DEFORM])
        elif row[KIND] == CAPSULE:
            along = 0.5 * (row[RADII + axis] - row[CENTER + axis])
            middle[axis] += along
            extent[axis] = abs(along) + max(row[ROTATION], row[ROTATION + 1])
        else:
            extent[axis] = row[RADII + axis]
