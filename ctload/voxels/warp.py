"""Zoom, flip, warp and blur on the CPU: the fast forms, in numba, of what ctload/pipeline/reference.py defines.

Enter one volume of stored voxels and its numbers; leaves a range of slices of the output. The caller allocates, and
spreads ranges over threads: the result depends on neither their number nor the ranges.
"""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def flip_slices(volume, flip_z, flip_y, flip_x, first, out):
    """out[i] = slice first + i of the mirrored volume; both C-contiguous and of one dtype."""
    depth, height, width = volume.shape
    for i in range(out.shape[0]):
        source_z = depth - 1 - first - i if flip_z else first + i
        for y in range(height):
            row = volume[source_z, height - 1 - y if flip_y else y]
            line = out[i, y]
            if flip_x:
                last = np.uint64(width - 1)  # unsigned: a signed index may count from the end, and is no vector loop
                for x in range(width):
                    line[x] = row[last - np.uint64(x)]
            else:
                line[:] = row


@numba.njit(nogil=True, cache=True)
def _inside(base, step, size, count):
    """The range of x in 0..count-1 with 0 <= base + x * step <= size: start and stop, as wide as is certain."""
    start, stop = 0, count
    if step > 0.0:
        start = max(start, int(np.ceil(-base / step)))
        stop = min(stop, int(np.floor((size - base) / step)) + 1)
    elif step < 0.0:
        start = max(start, int(np.ceil((size - base) / step)))
        stop = min(stop, int(np.floor(-base / step)) + 1)
    elif base < 0.0 or base > size:
        stop = 0
    return start, max(start, stop)


@numba.njit(nogil=True, cache=True, inline="always")
def _voxel(volume, z, y, x, fill):
    depth, height, width = volume.shape
    if 0 <= z < depth and 0 <= y < height and 0 <= x < width:
        return np.float32(volume[z, y, x])
    return fill


@numba.njit(nogil=True, cache=True)
def _at_the_rim(volume, z, y, x, fill):
    """One value at indices that may lie outside, where the volume goes on as `fill`."""
    depth, height, width = volume.shape
    if z <= -1 or y <= -1 or x <= -1 or z >= depth or y >= height or x >= width:
        return fill
    low_z, low_y, low_x = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    wz, wy, wx = np.float32(z - low_z), np.float32(y - low_y), np.float32(x - low_x)
    total = np.float32(0.0)
    for dz in range(2):
        for dy in range(2):
            a = _voxel(volume, low_z + dz, low_y + dy, low_x, fill)
            b = _voxel(volume, low_z + dz, low_y + dy, low_x + 1, fill)
            share = (wz if dz else np.float32(1.0) - wz) * (wy if dy else np.float32(1.0) - wy)
            total += share * (a + wx * (b - a))
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def warp_slices(volume, matrix, fill, first, out):
    """Slices first, first + 1, ... of a volume seen through an affine map, trilinear, going on as `fill` outside.

    Args:
        volume: (d, h, w) int16, C-contiguous.
        matrix: (3, 4) float64: index_in + 0.5 = A (index_out + 0.5) + t, (z, y, x).
        fill: float32.
        first: Number of out[0].
        out: (n, H, W) float32.
    """
    depth, height, width = volume.shape
    step_z, step_y, step_x = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    one = np.float32(1.0)
    for i in range(out.shape[0]):
        for y in range(out.shape[1]):
            at_z, at_y = first + i + 0.5, y + 0.5
            base_z = matrix[0, 0] * at_z + matrix[0, 1] * at_y + matrix[0, 2] * 0.5 + matrix[0, 3] - 0.5
            base_y = matrix[1, 0] * at_z + matrix[1, 1] * at_y + matrix[1, 2] * 0.5 + matrix[1, 3] - 0.5
            base_x = matrix[2, 0] * at_z + matrix[2, 1] * at_y + matrix[2, 2] * 0.5 + matrix[2, 3] - 0.5
            # Within start..stop all eight neighbours exist; a hair less than the last voxel keeps rounding out of it.
            start_z, stop_z = _inside(base_z, step_z, depth - 1.000001, out.shape[2])
            start_y, stop_y = _inside(base_y, step_y, height - 1.000001, out.shape[2])
            start_x, stop_x = _inside(base_x, step_x, width - 1.000001, out.shape[2])
            start = max(start_z, start_y, start_x)
            stop = max(start, min(stop_z, stop_y, stop_x))
            line = out[i, y]
            for x in range(min(start, out.shape[2])):
                line[x] = _at_the_rim(volume, base_z + x * step_z, base_y + x * step_y, base_x + x * step_x, fill)
            for x in range(start, stop):
                pz, py, px = base_z + x * step_z, base_y + x * step_y, base_x + x * step_x
                # From start on no index is below 0 but by rounding, so cutting off is rounding down.
                lz, ly, lx = max(int(pz), 0), max(int(py), 0), max(int(px), 0)
                wz, wy, wx = np.float32(pz - lz), np.float32(py - ly), np.float32(px - lx)
                a, b = np.float32(volume[lz, ly, lx]), np.float32(volume[lz, ly, lx + 1])
                c, d = np.float32(volume[lz, ly + 1, lx]), np.float32(volume[lz, ly + 1, lx + 1])
                e, f = np.float32(volume[lz + 1, ly, lx]), np.float32(volume[lz + 1, ly, lx + 1])
                g, h = np.float32(volume[lz + 1, ly + 1, lx]), np.float32(volume[lz + 1, ly + 1, lx + 1])
                low = (a + wx * (b - a)) * (one - wy) + (c + wx * (d - c)) * wy
                high = (e + wx * (f - e)) * (one - wy) + (g + wx * (h - g)) * wy
                line[x] = low + wz * (high - low)
            for x in range(max(stop, start), out.shape[2]):
                line[x] = _at_the_rim(volume, base_z + x * step_z, base_y + x * step_y, base_x + x * step_x, fill)


@numba.njit(nogil=True, cache=True)
def warp_label_slices(labels, matrix, first, out):
    """Slices of a label map (d, h, w) through a map as of warp_slices: the voxel a centre falls into; 0 outside."""
    depth, height, width = labels.shape
    for i in range(out.shape[0]):
        for y in range(out.shape[1]):
            at_z, at_y = first + i + 0.5, y + 0.5
            for x in range(out.shape[2]):
                at_x = x + 0.5
                z = matrix[0, 0] * at_z + matrix[0, 1] * at_y + matrix[0, 2] * at_x + matrix[0, 3]
                v = matrix[1, 0] * at_z + matrix[1, 1] * at_y + matrix[1, 2] * at_x + matrix[1, 3]
                u = matrix[2, 0] * at_z + matrix[2, 1] * at_y + matrix[2, 2] * at_x + matrix[2, 3]
                is_inside = 0 <= z < depth and 0 <= v < height and 0 <= u < width
                out[i, y, x] = labels[int(z), int(v), int(u)] if is_inside else 0


@numba.njit(nogil=True, cache=True)
def _mirrored(index, size):
    """An index beyond the ends as SciPy's "mirror" has it: the edge voxel stands once."""
    if size == 1:
        return 0
    index = abs(index) % (2 * size - 2)
    return index if index < size else 2 * size - 2 - index


@numba.njit(nogil=True, cache=True)
def blur_z_slices(volume, kernel, first, out):
    """Slices of the volume (D, H, W) blurred along z; kernel (2 r + 1,) float32, border mirrored."""
    radius = kernel.shape[0] // 2
    for i in range(out.shape[0]):
        for y in range(volume.shape[1]):
            line = out[i, y]
            line[:] = np.float32(0.0)
            for k in range(kernel.shape[0]):
                row = volume[_mirrored(first + i + k - radius, volume.shape[0]), y]
                weight = kernel[k]
                for x in range(line.shape[0]):
                    line[x] += weight * row[x]


@numba.njit(nogil=True, cache=True)
def blur_yx_slices(volume, kernel_y, kernel_x, out):
    """out = slices (n, H, W) blurred along y, then along x; kernels (2 r + 1,) float32, border mirrored."""
    height, width = volume.shape[1:]
    radius_y, radius_x = kernel_y.shape[0] // 2, kernel_x.shape[0] // 2
    padded = np.empty(width + 2 * radius_x, np.float32)
    for i in range(out.shape[0]):
        for y in range(height):
            middle = padded[radius_x : radius_x + width]
            middle[:] = np.float32(0.0)
            for k in range(kernel_y.shape[0]):
                row = volume[i, _mirrored(y + k - radius_y, height)]
                weight = kernel_y[k]
                for x in range(width):
                    middle[x] += weight * row[x]
            for k in range(1, radius_x + 1):
                padded[radius_x - k] = middle[_mirrored(-k, width)]
                padded[radius_x + width - 1 + k] = middle[_mirrored(width - 1 + k, width)]
            line = out[i, y]
            line[:] = np.float32(0.0)
            for k in range(kernel_x.shape[0]):
                weight = kernel_x[k]
                shifted = padded[k : k + width]
                for x in range(width):
                    line[x] += weight * shifted[x]
