"""Names of the files and folders of a store. Turns ids into relative paths; touches no disk.

STORE/ctload.json                        header: version, uuid, preset, digest of the manifest
STORE/manifest.parquet                   one row per study, with the digests of its metadata and voxels
STORE/journal/*.jsonl                    what was packed, line by line, as it happened
STORE/volumes/<prefix>/<study>.zarr/     one OME-Zarr 0.5 group per study
    0/ 1/ ...                            channels on one grid, "0" is the volume
    labels/<name>/0/                     label maps on the same grid
STORE/tmp/ STORE/lock                    volumes being written; held by the pack at work
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import xxhash

from ctload.errors import ManifestError

FORMAT_VERSION = 1
HEADER = "ctload.json"
MANIFEST = "manifest.parquet"
JOURNAL = "journal"
VOLUMES = "volumes"
SHARD = "c/0/0/0"
TMP = "tmp"
LOCK = "lock"
METADATA = "zarr.json"
LABEL_PREFIX = "labels/"
_MAX_NAME_BYTES = 255  # NAME_MAX of every common file system


def encoded(name: str) -> str:
    """Percent-encoded `name`: one path component, whatever characters an id has."""
    return quote(name, safe="")


def study_folder(study: str) -> str:
    """Folder of a study, relative to the store: volumes/<2 hex digits>/<percent-encoded id>.zarr.

    Raises:
        ManifestError: The id is empty, or its encoded form is longer than a file name may be.
    """
    name = f"{encoded(study)}.zarr"
    if not study or len(name) > _MAX_NAME_BYTES:
        raise ManifestError(
            f"a study id needs 1 to {_MAX_NAME_BYTES - 5} bytes when percent-encoded, got {len(name) - 5}; "
            "give it a shorter id in a table with the columns study and path",
            study=study,
        )
    return f"{VOLUMES}/{xxhash.xxh3_64_hexdigest(study.encode())[:2]}/{name}"


def array_folder(array: str) -> str:
    """Folder of an array inside its study: "0" -> "0", "labels/liver" -> "labels/liver/0"."""
    if array.startswith(LABEL_PREFIX):
        return f"{LABEL_PREFIX}{encoded(array.removeprefix(LABEL_PREFIX))}/0"
    return array


def array_names(channels: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Every array of a study in the order of its digest: channels, then "labels/<name>"."""
    return [*channels, *(f"{LABEL_PREFIX}{name}" for name in labels)]


def shard_file(array: str) -> str:
    """The one shard of an array, relative to its study."""
    return f"{array_folder(array)}/{SHARD}"


def metadata_files(channels: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Every zarr.json of a study, relative to its folder, in the order of the metadata digest."""
    folders = [array_folder(name) for name in array_names(channels, labels)]
    if labels:
        folders += ["labels", *(f"{LABEL_PREFIX}{encoded(name)}" for name in labels)]
    return [METADATA, *(f"{folder}/{METADATA}" for folder in folders)]


def metadata_above(array: str) -> list[str]:
    """The zarr.json of a study's group and of everything on the way down to an array, the array's own last."""
    parts = array_folder(array).split("/")
    return ["/".join((*parts[:depth], METADATA)) for depth in range(len(parts) + 1)]


def shape_of(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """(D, H, W) of a study in voxels, from its row of the manifest."""
    return (row["depth"], row["height"], row["width"])


def metadata_digests(row: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each zarr.json of a study by its name, from the study's row of the manifest."""
    return dict(zip(metadata_files(row["channels"], row["labels"]), row["metadata_digests"], strict=True))
