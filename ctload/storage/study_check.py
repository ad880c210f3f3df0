"""One study of a store, checked file by file: every problem is named, none is raised."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import xxhash

from ctload.errors import CtloadError
from ctload.geometry import Box
from ctload.storage import layout
from ctload.storage.digests import digest_voxels
from ctload.storage.shard_reader import check_shard, open_array, read_metadata, reader_context, start_box


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it was written.

    Attributes:
        study: Whose it is; "" for the store's own files.
        path: The file or folder at fault.
        message: What is wrong, and the way out.
    """

    study: str
    path: str
    message: str


def study_files(root: Path, row: Mapping[str, Any]) -> list[Path]:
    """Every file that a study must have."""
    folder = root / row["path"]
    shards = [layout.shard_file(name) for name in layout.array_names(row["channels"], row["labels"])]
    return [folder / name for name in (*layout.metadata_files(row["channels"], row["labels"]), *shards)]


def check_study(root: Path, row: Mapping[str, Any]) -> list[Problem]:
    """Check a study's files and read all its voxels.

    Args:
        root: The store.
        row: The study's row of the manifest.
    """
    problems = list(_metadata_problems(root, row))
    context = reader_context(None)
    whole = xxhash.xxh3_128()
    for name in layout.array_names(row["channels"], row["labels"]):
        try:
            whole.update(_read_checked(root, row, name, context).data)
        except CtloadError as error:
            problems.append(Problem(row["study"], error.path or "", error.message))
    if not problems and whole.hexdigest() != row["digest"]:
        problems.append(Problem(row["study"], str(root / row["path"]), "the voxels differ from the manifest's digest"))
    return list(dict.fromkeys(problems))


def _metadata_problems(root: Path, row: Mapping[str, Any]) -> Iterator[Problem]:
    folder = root / row["path"]
    digests = layout.metadata_digests(row)
    for name in digests:
        try:
            read_metadata(folder, name, row["study"], digests)
        except CtloadError as error:
            yield Problem(row["study"], error.path or "", error.message)


def _read_checked(root: Path, row: Mapping[str, Any], name: str, context: tensorstore.Context) -> np.ndarray:
    """The voxels of an array, (D, H, W), once they are what was written.

    Raises:
        CtloadError: They are not, or cannot be read.
    """
    folder = root / row["path"]
    digests, shape = layout.metadata_digests(row), layout.shape_of(row)
    stored = open_array(folder, row["study"], name, shape=shape, digests=digests, context=context)
    check_shard(stored)
    out = np.empty(stored.shape, stored.handle.dtype.numpy_dtype)
    voxels = start_box(stored, Box.whole(stored.shape), out, context).result()
    if digest_voxels([voxels]) != stored.voxel_digest:
        raise CtloadError("the voxels differ from those written", study=row["study"], path=stored.shard)
    return voxels
