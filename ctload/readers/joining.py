"""Channels and label maps beside their image: on one grid, or refused."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from ctload.errors import GeometryError, IngestError
from ctload.geometry import to_canonical
from ctload.readers.volume import Volume

# How far a corner of a channel or a label map may lie from the same corner of its image, in mm.
MAX_CORNER_DISTANCE_MM = 0.1


def joined(image: Volume, channels: Mapping[str, Volume], labels: Mapping[str, Volume], path: Path) -> Volume:
    """The image with its channels and label maps. Where their axis orders differ, all are turned to RAS+.

    Args:
        image: Stays array "0".
        channels: Name -> volume of the same unit.
        labels: Name -> volume of whole numbers 0..65535; stored as uint8 where they fit.
        path: The image's source, for messages.

    Raises:
        GeometryError: MIXED_SPACING for another grid.
        IngestError: NOT_A_VOLUME for label values that are no labels.
    """
    others = {**channels, **labels}
    if any(_apart_mm(image, other) > MAX_CORNER_DISTANCE_MM for other in others.values()):
        image = _canonical(image)
        others = {name: _canonical(other) for name, other in others.items()}
    for name, other in others.items():
        _require_same_grid(image, other, name, path)
    return replace(
        image,
        channels={name: others[name].voxels for name in channels},
        labels={name: _label_map(others[name].voxels, name, path) for name in labels},
    )


def _canonical(volume: Volume) -> Volume:
    voxels, affine = to_canonical(volume.voxels, volume.affine)
    return replace(volume, voxels=voxels, affine=affine)


def _apart_mm(image: Volume, other: Volume) -> float:
    """The largest distance between the same corners of two volumes; infinite for another shape."""
    if image.voxels.shape != other.voxels.shape:
        return np.inf
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in image.voxels.shape))])
    apart = corners @ (image.affine - other.affine).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


def _require_same_grid(image: Volume, other: Volume, name: str, path: Path) -> None:
    apart_mm = _apart_mm(image, other)
    if apart_mm > MAX_CORNER_DISTANCE_MM:
        raise GeometryError(
            "MIXED_SPACING",
            f"{name} of shape {other.voxels.shape} does not lie on the grid of its image of shape "
            f"{image.voxels.shape} (corners {apart_mm:.2f} mm apart, at most {MAX_CORNER_DISTANCE_MM:g}); resample it "
            "to that grid first",
            path=path,
        )


def _label_map(voxels: np.ndarray, name: str, path: Path) -> np.ndarray:
    low, high = float(voxels.min()), float(voxels.max())
    if low < 0 or high > 65535 or (voxels.dtype == np.float32 and (voxels != np.rint(voxels)).any()):
        raise IngestError("NOT_A_VOLUME", f"label map {name} holds {low:g}..{high:g}, needs whole 0..65535", path=path)
    return voxels.astype(np.uint8 if high <= 255 else np.uint16)
