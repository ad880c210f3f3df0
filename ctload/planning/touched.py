"""What a plan reads of the disk: boxes enter, chunks and bytes leave. Reads metadata of the drawn studies, no voxel."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ctload.errors import LoaderError, MissingChunkError
from ctload.geometry import Triple
from ctload.planning.plan import BatchPlan
from ctload.storage import layout
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class Touched:
    """What the boxes of one batch touch; of the volumes alone, not of label maps.

    Attributes:
        num_chunks: (B,) int64, chunks of each study that are decoded.
        num_all: (B,) int64, chunks that each study has.
        decoded_bytes: (B,) int64, of those chunks when decoded.
        box_bytes: (B,) int64, of the boxes alone, inside the volume.
        disk_bytes: (B,) float64, of those chunks as stored, were all of a study of one size.
    """

    num_chunks: np.ndarray
    num_all: np.ndarray
    decoded_bytes: np.ndarray
    box_bytes: np.ndarray
    disk_bytes: np.ndarray


def touched_by(studies: Studies, plan: BatchPlan) -> Touched:
    """What one batch touches.

    Args:
        studies: What the plan's rows count.
        plan: All its views are counted as the one box that is read.

    Raises:
        LoaderError: Studies without a store.
        MissingChunkError: The metadata of a study are gone.
    """
    if studies.store is None:
        raise LoaderError("these studies belong to no store; take them from open_store(path).studies or .where()")
    folders = studies.table["path"].take(plan.rows).to_pylist()
    chunks = np.array([chunk_of(studies.store.path / folder) for folder in folders])
    shapes, itemsize = studies.shapes[plan.rows], 2
    start, size = plan.read_boxes()
    low, high = np.clip(start, 0, shapes), np.clip(start + size, 0, shapes)
    is_empty = (high <= low).any(axis=1)
    num_chunks = np.where(is_empty, 0, (-(-high // chunks) - low // chunks).prod(axis=1))
    num_all = (-(-shapes // chunks)).prod(axis=1)
    return Touched(
        num_chunks=num_chunks,
        num_all=num_all,
        decoded_bytes=num_chunks * chunks.prod(axis=1) * itemsize,
        box_bytes=np.where(is_empty, 0, (high - low).prod(axis=1)) * itemsize,
        disk_bytes=num_chunks / num_all * studies.column("stored_bytes")[plan.rows],
    )


@lru_cache(4096)
def chunk_of(folder: Path) -> Triple:
    """(D, H, W) of the inner chunks of a study's volume.

    Raises:
        MissingChunkError: Its metadata are gone.
    """
    path = folder / layout.array_folder("0") / "zarr.json"
    try:
        codecs = json.loads(path.read_bytes())["codecs"]
    except OSError as error:
        raise MissingChunkError("the metadata of a study are gone; pack its source again", path=path) from error
    depth, height, width = codecs[0]["configuration"]["chunk_shape"]
    return (depth, height, width)
