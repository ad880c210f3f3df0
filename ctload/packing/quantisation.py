"""From exact values to int16: clip, round, and say what was lost.

HU are stored as whole HU. Other units are stored as value = stored * scale + offset: by the source's own steps where
they fit 16 bits, else by the finest linear steps that cover the values.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from ctload.errors import IngestError
from ctload.readers.volume import Volume
from ctload.storage.preset import Preset

INT16_MIN, INT16_MAX = -32768, 32767


@dataclass(frozen=True)
class Quantised:
    """int16 arrays of one study and what their numbers mean; see `ctload.packing.resample.Prepared` for the fields."""

    voxels: list[np.ndarray]
    scale: float
    offset: float
    fill_value: int
    num_clipped_low: int
    num_clipped_high: int
    max_rounding: float


def quantise(exact: list[np.ndarray], volume: Volume, preset: Preset) -> Quantised:
    """Round the arrays of one study to int16, all with one scale and offset.

    Args:
        exact: Arrays (D, H, W) in the volume's unit, integer or float32, image first.
        volume: Its unit and quantum are used.
        preset: Its clip range and fill are used for HU.

    Raises:
        IngestError: OUT_OF_INT16 for HU that do not fit and are not clipped.
    """
    if volume.unit == "HU":
        return _quantise_hu(exact, preset)
    return _quantise_linear(exact, volume.quantum, volume.quantum_offset)


def _quantise_hu(exact: list[np.ndarray], preset: Preset) -> Quantised:
    low, high = preset.clip_hu or (INT16_MIN, INT16_MAX)
    voxels, num_low, num_high, rounding = [], 0, 0, 0.0
    for values in exact:
        if preset.clip_hu is None:
            _require_int16(values)
            if np.issubdtype(values.dtype, np.integer):
                voxels.append(values.astype(np.int16, copy=False))
                continue
        stored = np.empty(values.shape, np.int16)
        low_here, high_here, rounding_here = _round_clipped(values.ravel(), low, high, stored.ravel())
        voxels.append(stored)
        num_low, num_high, rounding = num_low + low_here, num_high + high_here, max(rounding, rounding_here)
    return Quantised(voxels, 1.0, 0.0, preset.fill_hu, num_low, num_high, rounding)


def _require_int16(values: np.ndarray) -> None:
    smallest, largest = float(values.min()), float(values.max())
    if smallest < INT16_MIN - 0.5 or largest > INT16_MAX + 0.5:
        raise IngestError(
            "OUT_OF_INT16",
            f"HU run from {smallest:g} to {largest:g}, the store holds {INT16_MIN}..{INT16_MAX}; use a preset that "
            "clips (merlin, ct-rate), or give the volume unit='arbitrary'",
        )


@njit(cache=True, nogil=True)
def _round_clipped(values, low, high, out):
    """Clip, round half to even, count what was clipped; the largest rounding among what was not."""
    num_low, num_high, rounding = 0, 0, 0.0
    for i in range(values.size):
        value = float(values[i])
        if value < low:
            num_low += 1
            value = low
        elif value > high:
            num_high += 1
            value = high
        stored = np.rint(value)
        rounding = max(rounding, abs(stored - value))
        out[i] = np.int16(stored)
    return num_low, num_high, rounding


def _quantise_linear(exact: list[np.ndarray], quantum: float, quantum_offset: float) -> Quantised:
    smallest = min(float(values.min()) for values in exact)
    largest = max(float(values.max()) for values in exact)
    scale, offset = _linear_steps(exact, smallest, largest, quantum, quantum_offset)
    voxels, rounding = [], 0.0
    for values in exact:
        steps = (values.astype(np.float64) - offset) / scale
        stored = np.rint(steps)
        rounding = max(rounding, float(np.abs(stored - steps).max()))
        voxels.append(stored.astype(np.int16))
    # A float32 source cannot say its steps better than this: below it nothing was lost.
    resolution = 2**-23 * max(abs(smallest), abs(largest)) / scale
    fill_value = round((smallest - offset) / scale)
    return Quantised(voxels, scale, offset, fill_value, 0, 0, 0.0 if rounding <= resolution else rounding)


def _linear_steps(
    exact: list[np.ndarray], smallest: float, largest: float, quantum: float, quantum_offset: float
) -> tuple[float, float]:
    """Scale and offset: the source's own steps if all values are whole steps and fit 16 bits, else full range."""
    first, last = (smallest - quantum_offset) / quantum, (largest - quantum_offset) / quantum
    resolution = 2**-23 * max(abs(first), abs(last), 1.0)
    if round(last) - round(first) <= INT16_MAX - INT16_MIN and all(
        _is_whole((values.astype(np.float64) - quantum_offset) / quantum, 4 * resolution) for values in exact
    ):
        if first >= INT16_MIN - 0.5 and last <= INT16_MAX + 0.5:
            return quantum, quantum_offset
        return quantum, quantum_offset + (round(first) - INT16_MIN) * quantum
    scale = (largest - smallest) / (INT16_MAX - INT16_MIN) or 1.0  # a constant volume has any scale
    return scale, smallest - INT16_MIN * scale


def _is_whole(steps: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(steps - np.rint(steps)).max() <= min(tolerance, 0.01))
