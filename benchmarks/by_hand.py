"""A shard read by hand: pread, blosc, copy, and no checksum. The floor under any reader of stores; in no other use."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue]

from ctload.geometry import Box, Triple
from ctload.storage.shard_index import read_index

_CRC_BYTES = 4


@dataclass(frozen=True)
class Shard:
    """One stored int16 volume.

    Attributes:
        path: Its file.
        chunk, grid: (D, H, W) of a chunk in voxels, and chunks along each axis.
    """

    path: Path
    chunk: Triple
    grid: Triple


def shard_of(path: Path, shape: Triple, chunk: Triple) -> Shard:
    """A shard of a volume of `shape`, rounded up to whole chunks."""
    depth, height, width = (-(-size // part) for size, part in zip(shape, chunk, strict=True))
    return Shard(path, chunk, (depth, height, width))


def read_by_hand(shard: Shard, box: Box, out: np.ndarray, buffer: bytearray, *, is_whole: bool = False) -> None:
    """Read a box that lies inside the volume.

    Args:
        shard: The file.
        box: Voxels (z, y, x).
        out: (D, H, W) int16 of the box's shape, C-contiguous.
        buffer: As long as the file at least.
        is_whole: Read all of the file in one go; else the bytes of each chunk that the box touches.
    """
    bytes_ = memoryview(buffer)
    with shard.path.open("rb", buffering=0) as file:
        index = read_index(file, shard.grid)
        if is_whole:
            file.seek(0)
            file.readinto(bytes_)
        ends = zip(box.start, box.stop, shard.chunk, strict=True)
        ranges = [range(first // part, -(-last // part)) for first, last, part in ends]
        for z in ranges[0]:
            for y in ranges[1]:
                for x in ranges[2]:
                    offset, size = (int(number) for number in index[z, y, x])
                    if not is_whole:
                        file.seek(offset)
                        file.readinto(bytes_[offset : offset + size])
                    _decode(bytes_[offset : offset + size - _CRC_BYTES], shard, (z, y, x), box, out)


def _decode(compressed: memoryview, shard: Shard, at: Triple, box: Box, out: np.ndarray) -> None:
    """Put one chunk's voxels in their place; straight into it where they lie there in one piece."""
    first = [number * part for number, part in zip(at, shard.chunk, strict=True)]
    low = [max(start, edge) for start, edge in zip(first, box.start, strict=True)]
    high = [min(start + part, edge) for start, part, edge in zip(first, shard.chunk, box.stop, strict=True)]
    into = out[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, box.start, strict=True))]
    if into.shape == shard.chunk and into.flags.c_contiguous:
        blosc.decompress(compressed, into)
        return
    voxels = np.frombuffer(blosc.decompress(compressed), np.int16).reshape(shard.chunk)
    into[...] = voxels[tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))]
