"""Chunk and shard shapes and codecs of stored arrays. Takes a shape and a dtype, knows nothing of files.

One shard holds a whole volume: two files per array, one request on object storage. The chunk is what one read
decodes at least: whole slices where the grid is small (a whole volume is read in few pieces), blocks where crops
are small against the volume. Both were the best compromise of a sweep on real CT (benchmarks/README.md).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from ctload.errors import CtloadError
from ctload.geometry import Triple

SMALL_PLANE = 256  # voxels; up to here a crop along y and x saves less than whole slices gain
SLAB_DEPTH = 16
BLOCK = (32, 64, 64)  # (z, y, x): slices are thick, so crops are shallow


@dataclass(frozen=True)
class CodecProfile:
    """Compressor of the voxels. "fast" decodes 3 to 5 times faster, "archive" is about a fifth smaller."""

    name: str
    compressor: Literal["lz4", "zstd"]
    level: int


PROFILES = {
    "fast": CodecProfile("fast", "lz4", 5),
    "archive": CodecProfile("archive", "zstd", 3),
}


def profile_named(name: str) -> CodecProfile:
    """The profile of this name.

    Raises:
        CtloadError: There is none.
    """
    if name not in PROFILES:
        raise CtloadError(f"no codec profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]


def chunk_shape(shape: Triple) -> Triple:
    """Shape of an inner chunk: at most (16, H, W) when H and W are at most 256, else at most (32, 64, 64).

    Each axis is cut into as few chunks as that allows, of equal size, since the last one is stored and decoded whole.

    Example:
        >>> chunk_shape((41, 512, 512)), chunk_shape((160, 224, 224))
        ((21, 64, 64), (16, 224, 224))
    """
    _, height, width = shape
    largest = (SLAB_DEPTH, height, width) if max(height, width) <= SMALL_PLANE else BLOCK
    depth, height, width = (-(-size // -(-size // limit)) for size, limit in zip(shape, largest, strict=True))
    return (depth, height, width)


def shard_shape(shape: Triple) -> Triple:
    """Shape of the one shard: `shape` rounded up to whole chunks."""
    depth, height, width = (-(-size // chunk) * chunk for size, chunk in zip(shape, chunk_shape(shape), strict=True))
    return (depth, height, width)


def serializer() -> BytesCodec:
    return BytesCodec(endian="little")


def compressors(dtype: np.dtype, profile: CodecProfile) -> list[BloscCodec | Crc32cCodec]:
    """Bytes -> blosc with byte shuffle -> crc32c. Neither lz4 nor blosc checks itself; crc32c does."""
    return [
        BloscCodec(cname=profile.compressor, clevel=profile.level, shuffle="shuffle", typesize=dtype.itemsize),
        Crc32cCodec(),
    ]
