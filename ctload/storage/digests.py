"""Digests (xxh3_128, hex) of voxels, of a study's metadata, and of a source's bytes; and a column's bytes for one."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

_BLOCK = 1 << 22  # bytes read at once


def digest_voxels(arrays: Iterable[np.ndarray]) -> str:
    """Digest of arrays one after the other, in C order, little endian."""
    digest = xxhash.xxh3_128()
    for array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(little.data)
    return digest.hexdigest()


def digest_metadata(folder: Path, files: Sequence[str]) -> list[str]:
    """Digest of each of a study's zarr.json files.

    Raises:
        FileNotFoundError: One of `files` is not in `folder`.
    """
    return [xxhash.xxh3_128_hexdigest((folder / name).read_bytes()) for name in files]


def digest_source(path: Path, files: Iterable[str] | None = None) -> str:
    """Digest of a file, or of every file below a folder with its relative name; of `files` alone where given."""
    digest = xxhash.xxh3_128()
    if path.is_file():
        _add_file(digest, path)
        return digest.hexdigest()
    if files is None:
        files = (os.path.relpath(Path(top, name), path) for top, _, names in os.walk(path) for name in names)
    for name in sorted(files):
        digest.update(f"{name}\0".encode())
        _add_file(digest, path / name)
    return digest.hexdigest()


def _add_file(digest: xxhash.xxh3_128, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)


def column_bytes(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """The values of a column as bytes that are equal where the values are, however they are chunked or stored.

    Whole numbers count as int64, other numbers as float64, text as UTF-8; a null differs from every value. A million
    rows take milliseconds.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # too long for one array
        array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in array.chunks])
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
    yield from _value_bytes(array)


def _value_bytes(array: pa.Array) -> Iterator[bytes | memoryview]:
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        yield b"integer"
        yield _filled(array.cast(pa.int64(), safe=False), 0).to_numpy().data
    elif pa.types.is_floating(kind):
        yield b"floating"
        yield _filled(array.cast(pa.float64()), 0.0).to_numpy().data
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield b"text"
        text = _filled(array.cast(pa.large_string()), "")
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        yield np.diff(offsets).tobytes()
        data = text.buffers()[2]
        yield memoryview(data)[int(offsets[0]) : int(offsets[-1])] if data is not None else b""
    else:
        yield repr((str(kind), array.to_pylist())).encode()


def _filled(array: pa.Array, value: object) -> pa.Array:
    return array.fill_null(value) if array.null_count else array
