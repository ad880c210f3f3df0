"""One study put into a store: written aside, made durable, read back, renamed into place; whole or not at all.

Knows nothing of the journal or the manifest; the caller holds the store's lock.
"""

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ctload.errors import ChecksumError, CtloadError, MissingChunkError, StoreFormatError
from ctload.geometry import Box, spacing_of
from ctload.storage import chunking, durable, layout
from ctload.storage.blocks import FOREGROUND_HU, encode_blocks
from ctload.storage.digests import digest_metadata, digest_voxels
from ctload.storage.header import StoreHeader
from ctload.storage.manifest import SCHEMA, check_manifest
from ctload.storage.prepared import Prepared
from ctload.storage.shard_reader import check_shard, open_array, read_metadata, reader_context, start_box
from ctload.storage.volume_file import check_arrays, named_arrays, write_volume_file

_ASIDE = "aside"  # tmp/aside/<2 hex digits>/<study>.zarr: the old volume while its successor takes its place


def write_study(
    root: Path, study: str, prepared: Prepared, *, header: StoreHeader, source: str = "", source_digest: str = ""
) -> dict[str, Any]:
    """Write one study of a store, without telling the journal. The caller holds the store's lock.

    Returns:
        The study's row of the manifest.

    Raises:
        IngestError: NOT_A_VOLUME for wrong arrays.
        ManifestError: An affine or a scale of no meaning.
        ChecksumError: The disk gave back other voxels than were written.
    """
    arrays = named_arrays(prepared)
    check_arrays(arrays, study)
    staging = root / layout.TMP / f"{uuid.uuid4().hex}.zarr"
    staging.parent.mkdir(exist_ok=True)
    profile = chunking.profile_named(header.profile)
    try:
        size = write_volume_file(staging, study, prepared, arrays, profile=profile, preset=header.preset["hash"])
        durable.sync_tree(staging)
        row = _row(study, prepared, arrays) | {
            "stored_bytes": size,
            "preset": header.preset["hash"],
            "source": source,
            "source_digest": source_digest,
        }
        row["metadata_digests"] = digest_metadata(staging, layout.metadata_files(row["channels"], row["labels"]))
        check_manifest(pa.Table.from_pylist([row], schema=SCHEMA), path=str(root))
        _check_readback(staging, row)
        place_study(root, study, staging)
    except OSError as error:
        raise CtloadError(f"could not be written: {error}", study=study, path=root) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return row


def place_study(root: Path, study: str, staging: Path) -> None:
    """Put the durable folder of a study in its place; a kill leaves the old one or the new one."""
    target = root / layout.study_folder(study)
    durable.replace_folder(staging, target, aside=root / layout.TMP / _ASIDE / target.parent.name / target.name)


def is_intact(root: Path, row: Mapping[str, Any]) -> bool:
    """Whether a study's metadata and the endings of its shards are as written. Decodes no voxel."""
    folder = root / row["path"]
    digests = layout.metadata_digests(row)
    context = reader_context(None)
    try:
        for name in layout.metadata_files(row["channels"], row["labels"]):
            read_metadata(folder, name, row["study"], digests)
        for name in layout.array_names(row["channels"], row["labels"]):
            shape = layout.shape_of(row)
            check_shard(open_array(folder, row["study"], name, shape=shape, digests=digests, context=context))
    except (ChecksumError, MissingChunkError, StoreFormatError):
        return False
    return True


def clean_tmp(root: Path) -> None:
    """Remove what a killed pack left half-written, and put back what it had laid aside."""
    for aside in sorted((root / layout.TMP / _ASIDE).glob("*/*.zarr")):
        durable.restore_aside(aside, root / layout.VOLUMES / aside.parent.name / aside.name)
    for folder in (root, root / layout.JOURNAL):
        for file in folder.glob("*"):
            if durable.is_beside(file.name):
                file.unlink()
    shutil.rmtree(root / layout.TMP, ignore_errors=True)


def _row(study: str, prepared: Prepared, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    depth, height, width = arrays["0"].shape
    z_mm, y_mm, x_mm = spacing_of(prepared.affine)
    return {
        "study": study,
        "path": layout.study_folder(study),
        "depth": depth,
        "height": height,
        "width": width,
        "spacing_z_mm": z_mm,
        "spacing_y_mm": y_mm,
        "spacing_x_mm": x_mm,
        "affine": np.asarray(prepared.affine, np.float64).ravel().tolist(),
        "unit": prepared.unit,
        "scale": float(prepared.scale),
        "offset": float(prepared.offset),
        "fill_value": int(prepared.fill_value),
        "channels": [name for name in arrays if not name.startswith(layout.LABEL_PREFIX)],
        "labels": list(prepared.labels),
        "digest": digest_voxels(arrays.values()),
        "source_affine": np.asarray(prepared.source_affine, np.float64).ravel().tolist(),
        "num_clipped_low": int(prepared.num_clipped_low),
        "num_clipped_high": int(prepared.num_clipped_high),
        "max_rounding": float(prepared.max_rounding),
        "blocks": encode_blocks(arrays["0"], prepared.labels, above=_foreground_above(prepared)),
    }


def _foreground_above(prepared: Prepared) -> float:
    """Stored value that foreground lies above."""
    if prepared.unit == "HU":
        return (FOREGROUND_HU - prepared.offset) / prepared.scale
    return prepared.fill_value


def _check_readback(folder: Path, row: dict[str, Any]) -> None:
    """Read every voxel of a written study through the reader that training uses."""
    context = reader_context(None)
    names = layout.array_names(row["channels"], row["labels"])
    digests = layout.metadata_digests(row)
    shape = layout.shape_of(row)
    digest = xxhash.xxh3_128()
    for name in names:
        stored = open_array(folder, row["study"], name, shape=shape, digests=digests, context=context)
        check_shard(stored)
        out = np.empty(shape, stored.handle.dtype.numpy_dtype)
        digest.update(start_box(stored, Box.whole(shape), out, context).result().data)
    if digest.hexdigest() != row["digest"]:
        raise ChecksumError(
            "the voxels read back differ from those written; the disk or its memory is faulty, nothing was kept",
            study=row["study"],
            path=folder,
        )
