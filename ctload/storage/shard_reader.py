"""Reads boxes of one stored array with tensorstore, and turns its errors into typed ones.

zarr-python and tensorstore alike give fill values for a shard that is gone, and lz4 has no checksum of its own.
Here a missing chunk is an error, each chunk has a crc32c, and the shard's size and tail are held against the
metadata before anything is decoded.
"""

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import xxhash

from ctload.errors import ChecksumError, CtloadError, MissingChunkError, StoreFormatError
from ctload.geometry import Box, Triple
from ctload.process import forkguard
from ctload.storage import layout
from ctload.storage.volume_file import shard_ending

# What tensorstore puts in front of its messages when bytes are not what the metadata says.
_DAMAGE = ("DATA_LOSS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "INVALID_ARGUMENT")
_DTYPES = ("int16", "uint8", "uint16")
_REMEDY = "remove the study's folder and pack its source again, or restore the folder from a copy"


def reader_context(num_threads: int | None, cache_bytes: int = 0) -> tensorstore.Context:
    """Threads and caches of a store's reads. Without a cache of our own the system's page cache serves all ranks.

    Args:
        num_threads: Limit for decoding and for file access; None means all cores.
        cache_bytes: Memory of this process for decoded chunks. Each use asks the file system whether the file is still
            the one that was read, so that a shard written anew is decoded anew.

    Raises:
        ForkAfterOpenError: This process was forked after a store had been opened; tensorstore would abort it.
    """
    forkguard.check()
    spec: dict[str, Any] = {"cache_pool": {"total_bytes_limit": cache_bytes}}
    if num_threads is not None:
        spec |= {name: {"limit": num_threads} for name in ("data_copy_concurrency", "file_io_concurrency")}
    return tensorstore.Context(spec)


@dataclass(frozen=True)
class StoredArray:
    """One open array of one study.

    Attributes:
        study, array: Whose it is, for messages.
        shard: Its one shard.
        shape: (D, H, W) in voxels.
        fill_value: Stored value outside the volume.
        shard_bytes, shard_tail: Size and last bytes (hex) of the shard as written.
        voxel_digest: xxh3_128 of its voxels as written.
        handle: The tensorstore.
    """

    study: str
    array: str
    shard: Path
    shape: Triple
    fill_value: int
    shard_bytes: int
    shard_tail: str
    voxel_digest: str
    handle: tensorstore.TensorStore


class PendingRead:
    """A read under way. The caller keeps away from `out` until `result` returned."""

    def __init__(self, stored: StoredArray, out: np.ndarray, future: Any) -> None:
        self._stored = stored
        self._out = out
        self._future = future

    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self._future is None or self._future.done()

    def result(self) -> np.ndarray:
        """Wait for the voxels and give `out`.

        Raises:
            ChecksumError: A chunk is not what was written.
            MissingChunkError: A chunk or the shard is gone.
        """
        if self._future is not None:
            try:
                self._future.result()
            except (ValueError, OSError) as error:
                raise _typed(error, self._stored) from error
        return self._out


def open_array(
    folder: Path,
    study: str,
    array: str,
    *,
    shape: Sequence[int],
    digests: Mapping[str, str],
    context: tensorstore.Context,
) -> StoredArray:
    """Open an array of a study after its metadata were found to be what was written.

    Args:
        folder: The study's folder.
        study: Its id.
        array: "0", another channel, or "labels/<name>".
        shape: (D, H, W) in voxels, as the manifest has it.
        digests: xxh3_128 of the study's zarr.json files by their names relative to `folder`.
        context: As `reader_context` gives it.

    Raises:
        ChecksumError: A zarr.json is not what was written.
        MissingChunkError: It is gone.
        StoreFormatError: It is what was written, and no array of this format version.
    """
    described = [read_metadata(folder, name, study, digests) for name in layout.metadata_above(array)][-1]
    path = folder / layout.array_folder(array)
    try:
        depth, height, width = (int(size) for size in described["shape"])
        facts = described["attributes"]["ctload"]
        stored = StoredArray(
            study=study,
            array=array,
            shard=folder / layout.shard_file(array),
            shape=(depth, height, width),
            fill_value=int(described["fill_value"]),
            shard_bytes=int(facts["shard_bytes"]),
            shard_tail=str(facts["shard_tail"]),
            voxel_digest=str(facts["voxel_digest"]),
            handle=open_shard(path, context),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # ValueError is tensorstore's too
        raise _no_array(f"{type(error).__name__}: {error}", study, path) from error
    if stored.shape != tuple(shape) or stored.handle.shape != stored.shape or stored.handle.dtype.name not in _DTYPES:
        raise _no_array(f"it has {stored.handle.dtype.name} {stored.shape}, not {tuple(shape)}", study, path)
    return stored


def _no_array(why: str, study: str, path: Path) -> StoreFormatError:
    return StoreFormatError(
        f"this is no array of format version {layout.FORMAT_VERSION} ({why}); {_REMEDY}",
        study=study,
        path=path / layout.METADATA,
    )


def read_metadata(folder: Path, name: str, study: str, digests: Mapping[str, str]) -> dict[str, Any]:
    """A zarr.json of a study, held against its digest.

    Raises:
        MissingChunkError: It is gone.
        ChecksumError: It is not what was written.
        StoreFormatError: It is what was written, and no JSON object.
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(error, study, folder / name) from error
    if xxhash.xxh3_128_hexdigest(content) != digests[name]:
        raise ChecksumError(f"this metadata was damaged or exchanged; {_REMEDY}", study=study, path=folder / name)
    try:
        described = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _no_array(f"{type(error).__name__}: {error}", study, (folder / name).parent) from error
    if not isinstance(described, dict):
        raise _no_array("no JSON object", study, (folder / name).parent)
    return described


def _unreadable(error: OSError, study: str, path: Path) -> CtloadError:
    """The typed error for what a file system raised: gone and damaged are one study's matter, all else is not."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingChunkError(f"this file is gone; {_REMEDY}", study=study, path=path)
    if isinstance(error, IsADirectoryError) or error.errno == errno.EIO:
        return ChecksumError(f"the disk does not give this file back ({error}); {_REMEDY}", study=study, path=path)
    return CtloadError(f"cannot be read ({error}); see to rights and mounts", study=study, path=path)


def open_shard(folder: Path, context: tensorstore.Context) -> tensorstore.TensorStore:
    """The tensorstore of an array's folder; a missing chunk is an error, never a fill value."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "fill_missing_data_reads": False,
    }
    return tensorstore.open(spec, read=True, open=True, context=context).result()


def check_shard(stored: StoredArray) -> None:
    """Hold a shard's size and tail against the array's attributes, before any voxel of it is trusted.

    Raises:
        MissingChunkError: The shard is gone.
        ChecksumError: It was truncated or exchanged, or its end was damaged. The end lists the compressed sizes of
            all chunks: a foreign shard in which they are all the same shows in `ctload verify` only.
    """
    try:
        size, tail = shard_ending(stored.shard)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingChunkError(f"the shard is gone; {_REMEDY}", study=stored.study, path=stored.shard) from error
    except OSError as error:
        raise _unreadable(error, stored.study, stored.shard) from error
    if (size, tail) != (stored.shard_bytes, stored.shard_tail):
        raise ChecksumError(
            f"the shard has {size} bytes and ends in {tail}, written were {stored.shard_bytes} and "
            f"{stored.shard_tail}: it was truncated, damaged or exchanged; {_REMEDY}",
            study=stored.study,
            path=stored.shard,
        )


def start_box(stored: StoredArray, box: Box, out: np.ndarray, context: tensorstore.Context) -> PendingRead:
    """Begin to decode a box straight into `out`; where the box lies outside the volume, fill values are written now.

    Args:
        stored: The array.
        box: Voxels (z, y, x); may reach past the volume, or lie outside it.
        out: (D, H, W) of the box's shape, and of the array's dtype or one it is cast to.
        context: As `reader_context` gives it.
    """
    low = [min(max(start, 0), size) for start, size in zip(box.start, stored.shape, strict=True)]
    high = [max(min(stop, size), first) for stop, size, first in zip(box.stop, stored.shape, low, strict=True)]
    if tuple(low) != box.start or tuple(high) != box.stop:
        _fill_outside(out, box, low, high, stored.fill_value)
    if any(first >= last for first, last in zip(low, high, strict=True)):
        return PendingRead(stored, out, None)
    inside = tuple(slice(first - at, last - at) for first, last, at in zip(low, high, box.start, strict=True))
    source = stored.handle[tuple(slice(first, last) for first, last in zip(low, high, strict=True))]
    if source.dtype.numpy_dtype != out.dtype:
        source = tensorstore.cast(source, out.dtype)
    target = tensorstore.array(out[inside], context=context, copy=False, write=True)
    return PendingRead(stored, out, target.write(source))


def _fill_outside(out: np.ndarray, box: Box, low: list[int], high: list[int], fill: int) -> None:
    """Write the fill value into the part of `out` that is not low..high, one pair of slabs per axis."""
    if any(first >= last for first, last in zip(low, high, strict=True)):
        out[...] = fill
        return
    part = out
    for axis in range(3):
        before, after = low[axis] - box.start[axis], high[axis] - box.start[axis]
        lead = (slice(None),) * axis
        part[(*lead, slice(0, before))] = fill
        part[(*lead, slice(after, None))] = fill
        part = part[(*lead, slice(before, after))]


def _typed(error: Exception, stored: StoredArray) -> CtloadError:
    """The typed error for what tensorstore raised; its prefix is the only thing that tells the kinds apart."""
    text = str(error)
    if text.startswith("NOT_FOUND"):
        return MissingChunkError(f"a chunk is gone ({text}); {_REMEDY}", study=stored.study, path=stored.shard)
    if text.startswith(_DAMAGE):
        return ChecksumError(f"damaged after it was written ({text}); {_REMEDY}", study=stored.study, path=stored.shard)
    return CtloadError(f"cannot be read: {text}", study=stored.study, path=stored.shard)
