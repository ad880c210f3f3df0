"""The photometric pass: stored voxels to [0, 1], in one walk over memory, in numba.

Enter the voxels after geometry (int16, or float32 where they were interpolated) and the photometric numbers of a
BatchPlan; leaves float32. ctload/planning/plan.py fixes the formula. It knows nothing of files, stores or DALI. The
slow twin is ctload/pipeline/photometric_reference.py, the CUDA twin ctload/pipeline/photometric_cuda.py.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numba
import numpy as np

from ctload.planning.plan import BatchPlan
from ctload.voxels.noise import NORMALS_BLOCK, fill_normals, log_positive

TASK_VOXELS = 64 * NORMALS_BLOCK
"""Voxels of one task of the thread pool."""

_LOG2_E = np.float32(np.log2(np.e))
_LN2_HIGH = np.float32(0.693359375)  # exact in few bits, so that exponent * _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_TINY = np.float32(1e-30)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@numba.njit(nogil=True, cache=True, inline="always")
def _clip01(value):
    value = value if value > _ZERO else _ZERO  # a select; min and max keep NaN and branch
    return value if value < _ONE else _ONE


@numba.njit(nogil=True, cache=True, inline="always")
def _power(value, exponent):
    """value ** exponent for value in [0, 1], exponent > 0; absolute error below 2e-7 (expf of Cephes)."""
    is_zero = value < _TINY
    power = exponent * log_positive(_TINY if is_zero else value)
    power = power if power > np.float32(-87.0) else np.float32(-87.0)
    whole = np.floor(power * _LOG2_E + _HALF)
    x = power - whole * _LN2_HIGH - whole * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * x + np.float32(1.3981999507e-3)
    p = p * x + np.float32(8.3334519073e-3)
    p = p * x + np.float32(4.1665795894e-2)
    p = p * x + np.float32(1.6666665459e-1)
    p = p * x + np.float32(5.0000001201e-1)
    p = p * x * x + x + _ONE
    scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return _ZERO if is_zero else _clip01(p * scale)


@numba.njit(nogil=True, cache=True)
def run_photometric(voxels, low, high, brightness, contrast, gamma, noise_sigma, noise_key, channel, first_voxel, out):
    """Run the pass over a range of the voxels of one volume and one output channel.

    Args:
        voxels: (n,) int16 or float32.
        low: float32, stored value that becomes 0.
        high: float32, stored value that becomes 1.
        brightness: float32, added.
        contrast: float32, factor about 0.5.
        gamma: float32, exponent, above 0.
        noise_sigma: float32, in units of the window; 0 for none.
        noise_key: uint64 of the study.
        channel: Output channel, for the noise.
        first_voxel: Number of voxels[0] in the (D, H, W) volume; a multiple of 4.
        out: (n,) float32, written.
    """
    width = high - low
    words = np.empty((4, NORMALS_BLOCK // 4), np.uint32)
    normals = np.empty(NORMALS_BLOCK, np.float32)
    for start in range(0, voxels.size, NORMALS_BLOCK):
        # Slices and indices from 0: a loop the compiler can turn into vector instructions.
        block = voxels[start : start + NORMALS_BLOCK]
        values = out[start : start + NORMALS_BLOCK]
        for i in range(values.size):
            value = _clip01((np.float32(block[i]) - low) / width)
            values[i] = _clip01((value - _HALF) * contrast + _HALF + brightness)
        _finish(values, gamma, noise_sigma, noise_key, channel, first_voxel + start, words, normals)


@numba.njit(nogil=True, cache=True, inline="always")
def _finish(values, gamma, noise_sigma, noise_key, channel, first_voxel, words, normals):
    """Gamma and noise of one block, in place."""
    if gamma != _ONE:
        for i in range(values.size):
            values[i] = _power(values[i], gamma)
    if noise_sigma > _ZERO:
        fill_normals(noise_key, channel, first_voxel, words, normals)
        for i in range(values.size):
            values[i] = _clip01(values[i] + noise_sigma * normals[i])


@numba.njit(nogil=True, cache=True)
def _window_mirrored(row, low, width, brightness, contrast, line):
    """Window, contrast and brightness of a row, last voxel first."""
    last = np.uint64(row.size - 1)  # unsigned: a signed index may count from the end, and makes no vector loop
    for i in range(line.size):
        value = _clip01((np.float32(row[last - np.uint64(i)]) - low) / width)
        line[i] = _clip01((value - _HALF) * contrast + _HALF + brightness)


@numba.njit(nogil=True, cache=True)
def run_photometric_box(
    memory, origin, steps, shape, low, high, brightness, contrast, gamma, noise_sigma, noise_key, channel, first, out
):
    """`run_photometric` of a box that lies in larger memory or is mirrored: nothing is copied before.

    Voxel (z, y, x) of the `shape` (D, H, W) is memory[origin + z * steps[0] + y * steps[1] + x * steps[2]]; `memory`
    is (n,) int16 or float32, a step is below 0 where the box is mirrored, and along x it is 1 or -1. `first` is the
    number of out[0] in the box, a multiple of 4; `out` is (m,) float32, written. The rest is as in `run_photometric`.
    """
    width = high - low
    words = np.empty((4, NORMALS_BLOCK // 4), np.uint32)
    normals = np.empty(NORMALS_BLOCK, np.float32)
    ahead = np.empty(min(shape[2], NORMALS_BLOCK), memory.dtype)
    for start in range(0, out.size, NORMALS_BLOCK):
        values = out[start : start + NORMALS_BLOCK]
        done = 0
        while done < values.size:
            row, x = divmod(first + start + done, shape[2])
            z, y = divmod(row, shape[1])
            count = min(shape[2] - x, values.size - done)
            at = origin + z * steps[0] + y * steps[1] + x * steps[2]
            line = values[done : done + count]
            if steps[2] > 0:
                source = memory[at : at + count]
                for i in range(line.size):
                    value = _clip01((np.float32(source[i]) - low) / width)
                    line[i] = _clip01((value - _HALF) * contrast + _HALF + brightness)
            else:
                # Memory is walked forwards and mirrored in the cache: backwards it takes 1.7 times as long.
                source = memory[at + 1 - count : at + 1]
                for i in range(source.size):
                    ahead[i] = source[i]
                _window_mirrored(ahead[:count], low, width, brightness, contrast, line)
            done += count
        _finish(values, gamma, noise_sigma, noise_key, channel, first + start, words, normals)


def photometric_batch(
    volumes: Sequence[np.ndarray], plan: BatchPlan, out: np.ndarray, *, threads: Executor | None = None
) -> None:
    """Run the pass over a batch.

    Args:
        volumes: B * C arrays (D, H, W) or with an axis of 1 behind, int16 or float32, channel fastest. They may be
            mirrored views or parts of larger arrays, as long as neighbours along x are neighbours in memory.
        plan: The plan of the B studies.
        out: (B, C * W, D, H, W) float32, C-contiguous, written; W windows of every stored channel.
        threads: Where the work is spread; None does it here. The result does not depend on it.
    """
    num_windows = plan.window.shape[1]
    num_channels = len(volumes) // plan.batch_size
    assert out.shape[:2] == (plan.batch_size, num_channels * num_windows), out.shape
    tasks = []
    for index, volume in enumerate(volumes):
        study, channel = divmod(index, num_channels)
        for window in range(num_windows):
            tasks += _tasks(volume, plan, study, channel * num_windows + window, window, out)
    if threads is None:
        for kernel, arguments in tasks:
            kernel(*arguments)
        return
    for done in [threads.submit(kernel, *arguments) for kernel, arguments in tasks]:
        done.result()


def _tasks(
    volume: np.ndarray, plan: BatchPlan, study: int, channel: int, window: int, out: np.ndarray
) -> list[tuple[Callable[..., None], tuple]]:
    """The kernel and its arguments for the ranges of one output channel."""
    low, high = np.asarray(plan.window[study, window], np.float32)
    numbers = [np.float32(getattr(plan, name)[study]) for name in ("brightness", "contrast", "gamma", "noise_sigma")]
    settings = (low, high, *numbers, np.uint64(plan.noise_key[study]), channel)
    flat = out[study, channel].reshape(-1)
    starts = range(0, flat.size, TASK_VOXELS)
    if volume.flags.c_contiguous:
        voxels = volume.reshape(-1)
        parts = [(voxels[at : at + TASK_VOXELS], *settings, at, flat[at : at + TASK_VOXELS]) for at in starts]
        return [(run_photometric, part) for part in parts]
    memory, origin, steps = _in_memory(volume)
    parts = [(memory, origin, steps, volume.shape, *settings, at, flat[at : at + TASK_VOXELS]) for at in starts]
    return [(run_photometric_box, part) for part in parts]


def _in_memory(volume: np.ndarray) -> tuple[np.ndarray, int, tuple[int, int, int]]:
    """The stretch of memory that a view (D, H, W) lies in, where in it its first voxel is, and its steps in voxels."""
    z, y, x = (stride // volume.itemsize for stride in volume.strides)
    assert abs(x) == 1, f"neighbours along x lie {x} voxels apart"
    upright = volume[tuple(slice(None, None, -1 if step < 0 else 1) for step in (z, y, x))]
    reach = [(size - 1) * abs(step) for size, step in zip(volume.shape, (z, y, x), strict=True)]
    memory = np.lib.stride_tricks.as_strided(upright, (sum(reach) + 1,), (volume.itemsize,), writeable=False)
    origin = sum(far for far, step in zip(reach, (z, y, x), strict=True) if step < 0)
    return memory, origin, (z, y, x)
