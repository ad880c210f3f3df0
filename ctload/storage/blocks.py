"""Block tables: where a volume holds something, coarsely, so that a crop can be aimed without reading a voxel.

Enter the arrays of one study when it is packed; leaves a short text for its row of the manifest. Enters that text when
crops are drawn; leave counts. It knows nothing of crops.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from ctload.geometry import Triple

FOREGROUND_HU = -500.0
"""Above it a voxel is of the body (or of the table): lung and air lie below."""
_MAX_BLOCKS = 16  # along an axis
_MIN_EDGE = 16
_MAX_VALUES = 4096  # of a label map; one with more numbers instances, not kinds
_FULL = 255


@dataclass(frozen=True)
class BlockTable:
    """What one study holds, block by block.

    Attributes:
        edge: Voxels of a block along (z, y, x); the last blocks may be cut by the volume's end.
        grid: Blocks along (z, y, x).
        foreground: (n,) int64, foreground voxels of each block in 255ths of a block, rounded up.
        labels: For each label map and value: the blocks that hold it, (k,) int64, and how many voxels, (k,) int64.
    """

    edge: Triple
    grid: Triple
    foreground: np.ndarray
    labels: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]]

    def corner(self, block: int) -> np.ndarray:
        """(3,) int64, the first voxel of a block."""
        return np.array(np.unravel_index(block, self.grid), np.int64) * np.array(self.edge, np.int64)


def block_edge(shape: Triple) -> Triple:
    """Edges of the blocks of a volume: whole multiples of 8 of at least 16 voxels, at most 16 blocks per axis."""
    z, y, x = (max(_MIN_EDGE, 8 * -(-size // (8 * _MAX_BLOCKS))) for size in shape)
    return (z, y, x)


def encode_blocks(volume: np.ndarray, labels: Mapping[str, np.ndarray], *, above: float) -> str:
    """The block table of a study as text.

    Args:
        volume: (D, H, W) int16.
        labels: Label maps, (D, H, W) uint8 or uint16.
        above: Stored value that foreground lies above.
    """
    depth, height, width = volume.shape
    edge = block_edge((depth, height, width))
    grid = tuple(-(-size // step) for size, step in zip(volume.shape, edge, strict=True))
    counts = np.zeros(grid, np.int64)
    _count_above(volume, np.int64(np.floor(above)), np.array(edge), counts)
    plain = {
        "edge": edge,
        "grid": grid,
        "foreground": (-(-counts * _FULL // int(np.prod(edge)))).ravel().tolist(),
        "labels": {name: _label_blocks(voxels, edge, grid) for name, voxels in labels.items()},
    }
    return base64.b85encode(zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 9)).decode()


@lru_cache(maxsize=1024)
def decode_blocks(text: str) -> BlockTable:
    """The table that `encode_blocks` wrote; 0.3 ms, the latest are kept."""
    plain = json.loads(zlib.decompress(base64.b85decode(text)))
    labels = {
        name: {
            int(value): (np.array(blocks, np.int64), np.array(counts, np.int64))
            for value, (blocks, counts) in values.items()
        }
        for name, values in plain["labels"].items()
    }
    return BlockTable(tuple(plain["edge"]), tuple(plain["grid"]), np.array(plain["foreground"], np.int64), labels)


def _label_blocks(labels: np.ndarray, edge: Triple, grid: tuple[int, ...]) -> dict[str, list[list[int]]]:
    """Blocks and counts of each value above 0; of none where a map numbers more things than a table can hold."""
    values = np.flatnonzero(np.bincount(labels.reshape(-1)))
    values = values[values > 0]
    if not 0 < len(values) <= _MAX_VALUES:
        return {}
    place = np.full(int(values[-1]) + 1, -1, np.int64)
    place[values] = np.arange(len(values))
    counts = np.zeros((*grid, len(values)), np.int64)
    _count_labels(labels, place, np.array(edge), counts)
    counts = counts.reshape(-1, len(values))
    found = {}
    for number, value in enumerate(values.tolist()):
        blocks = np.flatnonzero(counts[:, number])
        found[str(value)] = [blocks.tolist(), counts[blocks, number].tolist()]
    return found


@njit(cache=True, nogil=True)
def _count_above(volume, above, edge, counts):
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            row = volume[z, y]
            line = counts[z // edge[0], y // edge[1]]
            for block in range(line.shape[0]):
                total = np.int64(0)
                for x in range(block * edge[2], min((block + 1) * edge[2], row.shape[0])):
                    total += row[x] > above
                line[block] += total


@njit(cache=True, nogil=True)
def _count_labels(labels, place, edge, counts):
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            row = labels[z, y]
            line = counts[z // edge[0], y // edge[1]]
            for x in range(row.shape[0]):
                if row[x] > 0:
                    line[x // edge[2], place[row[x]]] += 1
