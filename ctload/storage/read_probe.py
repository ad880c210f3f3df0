"""ReadProbe: what one read is made of. Files, decoding and copying happen inside one future of tensorstore, which does
not tell them apart; so now and then a read is done once more by steps, in one thread, with a clock between them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorstore

from ctload.geometry import Box, Triple
from ctload.storage import layout
from ctload.storage.shard_index import ranges_of, read_index
from ctload.storage.shard_reader import StoredArray, check_shard, open_shard, reader_context, start_box


@dataclass(frozen=True)
class ReadCost:
    """Seconds of one thread.

    Attributes:
        file_s: The bytes came from the disk, or from the system's cache where they lay in it.
        decode_s: They were decompressed and held against their checksums.
        copy_s: The voxels of the box were put in their place.
        seconds: All that the measurement itself took.
    """

    file_s: float = 0.0
    decode_s: float = 0.0
    copy_s: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "ReadCost") -> "ReadCost":
        return ReadCost(
            self.file_s + other.file_s,
            self.decode_s + other.decode_s,
            self.copy_s + other.copy_s,
            self.seconds + other.seconds,
        )


class ReadProbe:
    """Measures reads, each in one thread of its own. It keeps the memory that it reads into."""

    def __init__(self) -> None:
        self._context = reader_context(1)
        self._bytes = bytearray()
        self._voxels = np.empty(0, np.int16)

    def measure(self, stored: StoredArray, box: Box, out: np.ndarray, *, is_cached: bool = False) -> ReadCost:
        """Read a box by steps. First its bytes, as the disk or the system's cache gives them: file_s. Then all of the
        read, with the bytes in the cache by now; less the bytes once more, that is decoding and copying. Copying is
        what moving as many voxels within memory takes.

        Args:
            stored: The array.
            box: Voxels (z, y, x).
            out: (D, H, W) of the box's shape, as for start_box; it is written.
            is_cached: The array is read through a cache of decoded chunks. Then the read is timed through it first,
                and what it took beyond copying is divided as a read without a cache is.

        Raises:
            CtloadError: What reading the box would raise.
            OSError: The shard cannot be read.
        """
        began = time.perf_counter()
        check_shard(stored)
        cached_s = self._read(stored, box, out) if is_cached else 0.0
        handle = open_shard(stored.shard.parents[len(Path(layout.SHARD).parts) - 1], self._context)
        file_s = self._read_bytes(stored, handle, box)
        again_s = self._read_bytes(stored, handle, box)
        read_s = self._read(replace(stored, handle=handle), box, out)
        copy_s = self._copy(out)
        decode_s = max(read_s - again_s - copy_s, 0.0)
        if is_cached:
            share = min(max(cached_s - copy_s, 0.0) / max(file_s + decode_s, 1e-9), 1.0)
            file_s, decode_s = share * file_s, share * decode_s
        return ReadCost(file_s, decode_s, copy_s, time.perf_counter() - began)

    def _read(self, stored: StoredArray, box: Box, out: np.ndarray) -> float:
        """Seconds of reading the box."""
        started = time.perf_counter()
        start_box(stored, box, out, self._context).result()
        return time.perf_counter() - started

    def _read_bytes(self, stored: StoredArray, handle: tensorstore.TensorStore, box: Box) -> float:
        """Seconds of reading the index and the bytes that hold the box into memory that is in use already."""
        if len(self._bytes) < stored.shard_bytes:
            self._bytes = bytearray(b"\1") * stored.shard_bytes
        layouts = handle.chunk_layout
        chunk, shard = _triple(layouts.read_chunk.shape), _triple(layouts.write_chunk.shape)
        grid = (shard[0] // chunk[0], shard[1] // chunk[1], shard[2] // chunk[2])
        into = memoryview(self._bytes)
        started = time.perf_counter()
        with stored.shard.open("rb", buffering=0) as file:
            for offset, size in ranges_of(read_index(file, grid), chunk, box):
                file.seek(offset)
                file.readinto(into[:size])
        return time.perf_counter() - started

    def _copy(self, voxels: np.ndarray) -> float:
        """Seconds of moving as many voxels into memory that is in use already."""
        if self._voxels.shape != voxels.shape or self._voxels.dtype != voxels.dtype:
            self._voxels = np.ones_like(voxels)
        started = time.perf_counter()
        np.copyto(self._voxels, voxels)
        return time.perf_counter() - started


def _triple(shape: Sequence[int | None] | None) -> Triple:
    """A layout's shape, of which every axis is known in a stored array."""
    assert shape is not None
    depth, height, width = shape
    assert depth is not None
    assert height is not None
    assert width is not None
    return depth, height, width
