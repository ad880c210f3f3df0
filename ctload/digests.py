"""Digests (xxh3_128, hex) of voxels, of a study's metadata, and of a source's bytes."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
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
