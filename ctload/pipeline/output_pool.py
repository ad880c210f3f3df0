"""OutputPool: memory of delivered batches, used again once the last reference to a batch is gone.

A fresh array of 32 MB costs 8 ms of page faults, as much as decoding a volume. Leaves float32 arrays; knows nothing
of what is written into them.
"""

import math
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

_MAX_FREE = 4


class _Lease:
    """Owner of one array's memory. NumPy and DLPack views keep it alive; its end gives the memory back."""

    def __init__(self, buffer: np.ndarray, shape: tuple[int, ...], give_back: Callable[[np.ndarray], None]) -> None:
        self.__array_interface__ = {**buffer.__array_interface__, "shape": shape}
        weakref.finalize(self, give_back, buffer).atexit = False


class OutputPool:
    """Lends float32 arrays. At most _MAX_FREE returned buffers are kept; the rest are freed.

    An array stays the borrower's own for as long as it, a view of it or a tensor made from it without a copy exists.
    """

    def __init__(self) -> None:
        # Arrays end in the caller's thread while the pipeline's thread takes others: deque's pop and append are atomic.
        self._free: deque[np.ndarray] = deque(maxlen=_MAX_FREE)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A C-contiguous float32 array of `shape` with undefined content."""
        buffer = self._pop(math.prod(shape))
        return np.asarray(_Lease(buffer, shape, self._free.append))

    def _pop(self, size: int) -> np.ndarray:
        """A free buffer of `size` values, or a new one; free ones of another size are dropped."""
        while True:
            try:
                buffer = self._free.pop()
            except IndexError:
                return np.empty(size, np.float32)
            if buffer.size == size:
                return buffer
