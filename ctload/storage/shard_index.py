"""Where the chunks of a shard lie in its file: the index at the shard's end, as the Zarr v3 sharding codec has it.

For measuring what a read is made of; tensorstore reads the voxels, and checks what it reads.
"""

import os
from typing import BinaryIO

import numpy as np

from ctload.geometry import Box, Triple

_CRC_BYTES = 4
_EMPTY = 2**64 - 1


def read_index(file: BinaryIO, grid: Triple) -> np.ndarray:
    """Offset and size of every chunk.

    Args:
        file: The shard.
        grid: Chunks along (z, y, x).

    Returns:
        (gz, gy, gx, 2) uint64; both numbers are 2**64 - 1 for a chunk that is not there.

    Raises:
        OSError: The file is shorter than its index, or cannot be read.
    """
    size = 16 * int(np.prod(grid))
    file.seek(-(size + _CRC_BYTES), os.SEEK_END)
    return np.frombuffer(file.read(size), "<u8").reshape(*grid, 2)


def ranges_of(index: np.ndarray, chunk: Triple, box: Box) -> list[tuple[int, int]]:
    """(offset, size) of the bytes that hold a box: its chunks in the order of the file, neighbours joined.

    Args:
        index: Of `read_index`.
        chunk: (D, H, W) of a chunk in voxels.
        box: Voxels (z, y, x); what lies outside the volume is nowhere in the file.
    """
    inside = [
        slice(max(first, 0) // size, max(-(-last // size), 0))
        for first, last, size in zip(box.start, box.stop, chunk, strict=True)
    ]
    found = index[tuple(inside)].reshape(-1, 2)
    found = found[found[:, 0] != _EMPTY]
    ranges: list[tuple[int, int]] = []
    for offset, size in found[np.argsort(found[:, 0])].tolist():
        if ranges and sum(ranges[-1]) == offset:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + size)
        else:
            ranges.append((offset, size))
    return ranges
