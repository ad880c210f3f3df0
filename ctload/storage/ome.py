"""Attributes of a study's Zarr groups: OME-Zarr 0.5 (NGFF 0.5, https://ngff.openmicroscopy.org/0.5/) and `ctload`.

OME-Zarr 0.5 has scale and translation but no affine, so an oblique volume is only whole in the `ctload` block,
which also keeps the unit and what stored integers mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctload.geometry import spacing_of

VERSION = "0.5"
AXES = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in ("z", "y", "x")]


def multiscale(name: str, path: str, affine: np.ndarray) -> dict[str, Any]:
    """One image with one resolution. The translation is the centre of the first voxel, (z, y, x) mm in RAS+."""
    origin = [float(value) for value in np.asarray(affine, np.float64)[[2, 1, 0], 3]]
    transformations = [
        {"type": "scale", "scale": list(spacing_of(affine))},
        {"type": "translation", "translation": origin},
    ]
    return {
        "name": name,
        "axes": AXES,
        "datasets": [{"path": path, "coordinateTransformations": transformations}],
    }


def volume_attributes(channels: Sequence[str], affine: np.ndarray, block: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a study's group.

    Args:
        channels: Names of its arrays; each is an image of its own on the same grid.
        affine: (4, 4), voxel index (z, y, x) -> RAS+ mm.
        block: What this library keeps beside OME-Zarr, as plain JSON values.
    """
    images = [multiscale(name, name, affine) for name in channels]
    return {"ome": {"version": VERSION, "multiscales": images}, "ctload": block}


def labels_attributes(labels: Sequence[str]) -> dict[str, Any]:
    """Attributes of the group that holds the label maps."""
    return {"ome": {"version": VERSION, "labels": list(labels)}}


def label_attributes(name: str, affine: np.ndarray) -> dict[str, Any]:
    """Attributes of the group of one label map."""
    return {
        "ome": {
            "version": VERSION,
            "multiscales": [multiscale(name, "0", affine)],
            "image-label": {"source": {"image": "../../"}},
        }
    }
