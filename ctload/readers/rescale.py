"""Stored values times slope plus intercept, in the smallest type that loses nothing."""

import numpy as np

_AT_ONCE = 1 << 20  # values


def rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept: int16 or int32 where it is whole and fits, else float32.

    Args:
        stored: Integers or floats, any shape, finite.
        slope: Not 0.
        intercept: In the unit of the result.
    """
    is_whole = slope == int(slope) and intercept == int(intercept) and np.issubdtype(stored.dtype, np.integer)
    if is_whole and max(abs(slope), abs(intercept)) < 1 << 31:
        ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
                if (slope, intercept) == (1, 0):
                    return stored.astype(dtype, copy=False)
                return _in_blocks(stored, np.int64, int(slope), int(intercept), dtype)
    if (slope, intercept) == (1, 0):
        return stored.astype(np.float32, copy=False)
    return _in_blocks(stored, np.float64, slope, intercept, np.float32)


def _in_blocks(stored: np.ndarray, exact: type, slope: float, intercept: float, dtype: type) -> np.ndarray:
    """stored * slope + intercept, computed in `exact` and kept in `dtype`, with little memory beside the result."""
    out = np.empty(stored.shape, dtype)
    step = max(1, _AT_ONCE * len(stored) // max(stored.size, 1))
    for start in range(0, len(stored), step):
        part = slice(start, start + step)
        out[part] = stored[part].astype(exact) * exact(slope) + exact(intercept)
    return out
