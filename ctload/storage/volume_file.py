"""One study on disk: a Prepared volume in, an OME-Zarr 0.5 group with one shard per array out.

zarr-python writes and owns the metadata. The shard's size and its last bytes (the checksum of its index) go into
the array's attributes, so that a truncated or swapped shard is seen before a voxel is read.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ctload.errors import IngestError
from ctload.storage import chunking, layout, ome
from ctload.storage.chunking import CodecProfile
from ctload.storage.digests import digest_voxels
from ctload.storage.prepared import Prepared

TAIL_BYTES = 4  # crc32c of the shard index, little endian, at the end of the file
_DTYPES = {"channel": ("int16",), "label": ("uint8", "uint16")}


def named_arrays(prepared: Prepared) -> dict[str, np.ndarray]:
    """Every array of a study by its name in the store, in digest order: channels, then "labels/<name>"."""
    arrays = {name: prepared.arrays[name] for name in sorted(prepared.arrays, key=int)}
    arrays |= {f"{layout.LABEL_PREFIX}{name}": voxels for name, voxels in prepared.labels.items()}
    return arrays


def check_arrays(arrays: dict[str, np.ndarray], study: str) -> None:
    """Check that the arrays lie on one grid and have the stored types.

    Raises:
        IngestError: NOT_A_VOLUME.
    """
    if "0" not in arrays:
        raise IngestError("NOT_A_VOLUME", 'a study needs the array "0", the volume', study=study)
    shape = arrays["0"].shape
    for name, voxels in arrays.items():
        wanted = _DTYPES["label" if name.startswith(layout.LABEL_PREFIX) else "channel"]
        if voxels.ndim != 3 or voxels.shape != shape or 0 in voxels.shape or voxels.dtype.name not in wanted:
            raise IngestError(
                "NOT_A_VOLUME",
                f"array {name!r} is {voxels.dtype} {voxels.shape}; every array of a study needs the shape (D, H, W) "
                f'of array "0", here {shape}, without an empty axis, and one of the types {", ".join(wanted)}',
                study=study,
            )


def write_volume_file(
    folder: Path, study: str, prepared: Prepared, arrays: dict[str, np.ndarray], *, profile: CodecProfile, preset: str
) -> int:
    """Write the group of a study into a new folder.

    Args:
        folder: Where to; nothing may be there.
        study: Its id.
        prepared: Geometry and meaning of the stored integers.
        arrays: Its voxels as `named_arrays` gives them.
        profile: Compressor.
        preset: Hash of the preset.

    Returns:
        Compressed size of all arrays in bytes.
    """
    labels = [name for name in arrays if name.startswith(layout.LABEL_PREFIX)]
    channels = [name for name in arrays if name not in labels]
    block = _block(study, prepared, preset)
    group = zarr.create_group(
        str(folder), zarr_format=3, attributes=ome.volume_attributes(channels, prepared.affine, block)
    )
    if labels:
        names = [layout.encoded(name.removeprefix(layout.LABEL_PREFIX)) for name in labels]
        group.create_group("labels", attributes=ome.labels_attributes(names))
        for name in names:
            attributes = ome.label_attributes(name, prepared.affine)
            group.create_group(f"{layout.LABEL_PREFIX}{name}", attributes=attributes)
    fills = {name: 0 if name in labels else prepared.fill_value for name in arrays}
    return sum(_write_array(folder, group, name, arrays[name], fills[name], profile) for name in arrays)


def _write_array(
    folder: Path, group: zarr.Group, name: str, voxels: np.ndarray, fill: int, profile: CodecProfile
) -> int:
    depth, height, width = voxels.shape
    shape = (depth, height, width)
    array = group.create_array(
        layout.array_folder(name),
        shape=shape,
        dtype=voxels.dtype.name,
        chunks=chunking.chunk_shape(shape),
        shards=chunking.shard_shape(shape),
        serializer=chunking.serializer(),
        compressors=chunking.compressors(voxels.dtype, profile),
        fill_value=fill,
        dimension_names=("z", "y", "x"),
        config={"write_empty_chunks": True},  # else a missing chunk could be an empty one
    )
    array[...] = voxels
    size, tail = shard_ending(folder / layout.shard_file(name))
    facts = {"shard_bytes": size, "shard_tail": tail, "voxel_digest": digest_voxels([voxels])}
    array.update_attributes({"ctload": facts})
    return size


def shard_ending(shard: Path) -> tuple[int, str]:
    """Size of a shard in bytes, and its last bytes in hex.

    Raises:
        FileNotFoundError: The shard is gone.
    """
    with shard.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        return size, file.read(TAIL_BYTES).hex()


def _block(study: str, prepared: Prepared, preset: str) -> dict[str, Any]:
    return {
        "format_version": layout.FORMAT_VERSION,
        "study": study,
        "affine": np.asarray(prepared.affine, np.float64).tolist(),  # (4, 4), index (z, y, x) -> RAS+ mm
        "source_affine": np.asarray(prepared.source_affine, np.float64).tolist(),
        "orientation": "RAS+",  # the index (z, y, x) rises to superior, anterior, right
        "unit": prepared.unit,
        "scale": float(prepared.scale),  # value in `unit` = stored * scale + offset
        "offset": float(prepared.offset),
        "preset": preset,
    }
