"""Crops: where in each volume a batch reads. Shapes enter, first voxels leave; no voxel is touched.

All shapes and starts are in voxels of the stored array, (z, y, x). A start may be negative where a crop is larger
than the volume: the reader pads there.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ctload.errors import PlanError
from ctload.geometry import Triple
from ctload.manifest import Studies


class Crop(Protocol):
    """Draws the boxes of a batch.

    Attributes:
        shape: (D, H, W) of every crop in voxels; None where the studies decide it (WholeVolume).
    """

    @property
    def shape(self) -> Triple | None: ...

    def check(self, studies: Studies) -> Triple:
        """The (D, H, W) of every crop of these studies.

        Raises:
            PlanError: A study that this crop cannot be drawn from.
        """
        ...

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B, 3) int64, first voxel of each crop in volumes of these (B, 3) shapes."""
        ...


def _checked_shape(shape: Triple, name: str) -> Triple:
    if len(shape) != 3 or any(int(size) != size or size < 1 for size in shape):
        raise PlanError(f"{name} needs three sizes (D, H, W) >= 1 voxel, got {shape}")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def _check_fits(studies: Studies, shape: Triple, pad: bool, name: str) -> Triple:
    shapes = studies.shapes
    small = np.flatnonzero((shapes < np.array(shape)).any(axis=1))
    if len(small) and not pad:
        row = int(small[0])
        raise PlanError(
            f"{name}{shape} is larger than the volume {tuple(shapes[row].tolist())} (D, H, W), as in {len(small)} of "
            f"{len(studies)} studies; take a smaller crop, pass pad=True, or select with Studies.where",
            study=studies.ids[row],
        )
    return shape


def _padded_starts(shapes: np.ndarray, shape: Triple) -> np.ndarray:
    """-(missing // 2) where a volume is smaller than the crop, 0 elsewhere: MONAI's symmetric padding."""
    return -(np.maximum(np.array(shape, np.int64) - shapes, 0) // 2)


@dataclass(frozen=True)
class CenterCrop:
    """The middle of every volume: start = max(n // 2 - size // 2, 0), as MONAI and Merlin have it.

    Args:
        shape: (D, H, W) in voxels.
        pad: Whether a volume may be smaller; it is then padded by missing // 2 voxels before and the rest after.
    """

    shape: Triple
    pad: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape, "CenterCrop"))

    def check(self, studies: Studies) -> Triple:
        return _check_fits(studies, self.shape, self.pad, "CenterCrop")

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shapes = np.asarray(shapes, np.int64)
        inside = np.maximum(shapes // 2 - np.array(self.shape, np.int64) // 2, 0)
        return np.where(shapes >= self.shape, inside, _padded_starts(shapes, self.shape))


@dataclass(frozen=True)
class RandomCrop:
    """A uniformly drawn place inside every volume, one draw per axis.

    Args:
        shape: (D, H, W) in voxels.
        pad: Whether a volume may be smaller; it is then centred and padded along that axis.
    """

    shape: Triple
    pad: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape, "RandomCrop"))

    def check(self, studies: Studies) -> Triple:
        return _check_fits(studies, self.shape, self.pad, "RandomCrop")

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shapes = np.asarray(shapes, np.int64)
        num_places = np.maximum(shapes - np.array(self.shape, np.int64), 0) + 1
        inside = np.floor(rng.random(shapes.shape) * num_places).astype(np.int64)
        return np.where(shapes >= self.shape, inside, _padded_starts(shapes, self.shape))


@dataclass(frozen=True)
class WholeVolume:
    """No crop. All studies must have one shape, since a batch is one array."""

    @property
    def shape(self) -> Triple | None:
        return None

    def check(self, studies: Studies) -> Triple:
        shapes = studies.shapes
        other = np.flatnonzero((shapes != shapes[0]).any(axis=1))
        if len(other):
            row = int(other[0])
            raise PlanError(
                f"WholeVolume needs studies of one shape, but this one is {tuple(shapes[row].tolist())} and study "
                f"{studies.ids[0]} is {tuple(shapes[0].tolist())} (D, H, W); use CenterCrop(shape, pad=True) or "
                "RandomCrop, or a store packed on a fixed grid",
                study=studies.ids[row],
            )
        return (int(shapes[0, 0]), int(shapes[0, 1]), int(shapes[0, 2]))

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((len(shapes), 3), np.int64)
