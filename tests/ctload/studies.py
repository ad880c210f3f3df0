"""Studies without voxels: tables that pass check_manifest, for tests of drawing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ctload.storage.manifest import SCHEMA, Studies, check_manifest


def make_studies(
    num: int,
    *,
    shape: tuple[int, int, int] = (32, 48, 48),
    shapes: Sequence[Sequence[int]] | np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.5),
    columns: Mapping[str, Any] | None = None,
) -> Studies:
    """`num` studies "s000000", ... of one shape (or `shapes` (N, 3)), with further columns joined on."""
    sizes = np.broadcast_to(np.array(shape), (num, 3)) if shapes is None else np.asarray(shapes)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing_mm, 1.0)
    fields: dict[str, Any] = {
        "study": [f"s{row:06d}" for row in range(num)],
        "path": [f"volumes/{row % 256:02x}/s{row:06d}.zarr" for row in range(num)],
        "depth": sizes[:, 0], "height": sizes[:, 1], "width": sizes[:, 2],
        "spacing_z_mm": [spacing_mm[0]] * num, "spacing_y_mm": [spacing_mm[1]] * num,
        "spacing_x_mm": [spacing_mm[2]] * num,
        "affine": [affine.ravel().tolist()] * num, "source_affine": [affine.ravel().tolist()] * num,
        "unit": ["HU"] * num, "scale": [1.0] * num, "offset": [0.0] * num, "fill_value": [-1024] * num,
        "blocks": [""] * num, "channels": [["0"]] * num, "labels": [[]] * num,
        "digest": [f"{row:032x}" for row in range(num)],
        "metadata_digests": [["0" * 32] * 2] * num, "stored_bytes": sizes.prod(axis=1),
    }  # fmt: skip
    filler = {pa.string(): "-", pa.int64(): 0, pa.float64(): 0.0}
    table = pa.table(
        {field.name: pa.array(fields.get(field.name, [filler.get(field.type)] * num), field.type) for field in SCHEMA}
    )
    check_manifest(table, path="memory")
    studies = Studies(table)
    return studies if columns is None else studies.join({"study": studies.ids, **columns})
