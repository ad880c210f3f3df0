"""Stored values times slope plus intercept, in the smallest type that loses nothing."""

import numpy as np


def rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept: int16 or int32 where it is whole and fits, else float32.

    Args:
        stored: Integers or floats, any shape, finite.
        slope: Not 0.
        intercept: In the unit of the result.
    """
    is_whole = slope == int(slope) and intercept == int(intercept) and np.issubdtype(stored.dtype, np.integer)
    if is_whole:
        ends = [int(end) * int(slope) + int(intercept) for end in (stored.min(), stored.max())]
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
                if (slope, intercept) == (1, 0):
                    return stored.astype(dtype, copy=False)
                return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)
    if (slope, intercept) == (1, 0):
        return stored.astype(np.float32, copy=False)
    return (stored * np.float64(slope) + intercept).astype(np.float32)
