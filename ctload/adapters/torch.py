"""Batches as torch tensors, without a copy. The only file of ctload's loading path that imports torch."""

from typing import Any

import numpy as np
import torch


def to_torch(array: Any) -> torch.Tensor:
    """A tensor over the memory of a NumPy or CuPy array, on the device where it lies; it keeps the memory alive."""
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array)
    return torch.from_dlpack(array)
