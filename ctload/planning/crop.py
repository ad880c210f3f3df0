"""Crops: where in each volume a batch reads. Shapes enter, first voxels leave; no voxel is touched.

All shapes and starts are in voxels of the stored array, (z, y, x). A start may be negative where a crop is larger
than the volume: the reader pads there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ctload.errors import PlanError
from ctload.geometry import Triple
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class Boxes:
    """What one view of a batch reads; the fields of BatchPlan with the same meaning.

    Attributes:
        start: (B, 3) int64, first voxel.
        shape: (B, 3) int64, or None where every box has the crop's shape.
        zoom: (B, 3, 2) float64, or None where no box is resized.
    """

    start: np.ndarray
    shape: np.ndarray | None = None
    zoom: np.ndarray | None = None


GeneratorOfView = Callable[[int], np.random.Generator]


class Crop(Protocol):
    """Draws the boxes of a batch.

    Attributes:
        shape: (D, H, W) of every crop in voxels; None where the studies decide it (WholeVolume).
        is_resizing: Whether its boxes are of another shape and are resized.
    """

    @property
    def shape(self) -> Triple | None: ...
    @property
    def is_resizing(self) -> bool: ...

    def check(self, studies: Studies) -> Triple:
        """The (D, H, W) of every crop of these studies.

        Raises:
            PlanError: A study that this crop cannot be drawn from.
        """
        ...

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        """A (D, H, W) that holds the boxes of all views of any of these studies."""
        ...

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        """The boxes of each view.

        Args:
            studies: Where the studies are rows of.
            rows: (B,) int64.
            generator_of: The generator of a view by its number; view 0 does not depend on how many there are.
            num_views: At least 1.
        """
        ...


def checked_shape(shape: Triple, name: str) -> Triple:
    if len(shape) != 3 or any(int(size) != size or size < 1 for size in shape):
        raise PlanError(f"{name} needs three sizes (D, H, W) >= 1 voxel, got {shape}")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def check_fits(studies: Studies, shape: Triple, pad: bool, name: str) -> Triple:
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


def padded_starts(shapes: np.ndarray, shape: Triple) -> np.ndarray:
    """-(missing // 2) where a volume is smaller than the crop, 0 elsewhere: MONAI's symmetric padding."""
    return -(np.maximum(np.array(shape, np.int64) - shapes, 0) // 2)


def checked_shift(shift: Triple | None, name: str) -> Triple | None:
    """The view_shift of a crop, checked.

    Raises:
        PlanError: Not three whole numbers >= 0.
    """
    if shift is None:
        return None
    if len(shift) != 3 or any(int(part) != part or part < 0 for part in shift):
        raise PlanError(f"{name} needs view_shift as three distances (z, y, x) >= 0 voxels, or None, got {shift}")
    return (int(shift[0]), int(shift[1]), int(shift[2]))


def spanned(studies: Studies, shape: Triple, shift: Triple | None, num_views: int) -> Triple:
    """(D, H, W) that holds the views' crops of `shape` in any of these volumes, each within `shift` of the first."""
    largest = studies.shapes.max(axis=0)
    if shift is not None:
        largest = np.minimum(largest, np.array(shape) + min(num_views - 1, 2) * np.array(shift))
    depth, height, width = np.maximum(largest, shape).tolist()
    return (depth, height, width)


def starts_near(
    first: np.ndarray, shapes: np.ndarray, shape: Triple, shift: Triple | None, rng: np.random.Generator
) -> np.ndarray:
    """(B, 3) int64, starts drawn uniformly among the places inside the volume that lie within `shift` of `first`."""
    last = np.maximum(np.asarray(shapes, np.int64) - np.array(shape, np.int64), 0)
    low, high = np.zeros_like(last), last
    if shift is not None:
        low, high = np.maximum(first - np.array(shift), 0), np.minimum(first + np.array(shift), last)
    drawn = low + np.floor(rng.random(first.shape) * (high - low + 1)).astype(np.int64)
    return np.where(shapes >= np.array(shape), drawn, first)


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
        object.__setattr__(self, "shape", checked_shape(self.shape, "CenterCrop"))

    def check(self, studies: Studies) -> Triple:
        return check_fits(studies, self.shape, self.pad, "CenterCrop")

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shapes = np.asarray(shapes, np.int64)
        inside = np.maximum(shapes // 2 - np.array(self.shape, np.int64) // 2, 0)
        return np.where(shapes >= self.shape, inside, padded_starts(shapes, self.shape))

    @property
    def is_resizing(self) -> bool:
        return False

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        return self.shape

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        return (Boxes(self.starts(studies.shapes[rows], generator_of(0))),) * num_views


@dataclass(frozen=True)
class RandomCrop:
    """A uniformly drawn place inside every volume, one draw per axis.

    Args:
        shape: (D, H, W) in voxels.
        pad: Whether a volume may be smaller; it is then centred and padded along that axis.
        view_shift: Largest distance along (z, y, x), in voxels, between where view 0 begins and where another view
            does; None is anywhere in the volume. All views of a study come from one read of the box that holds them:
            on large native volumes a limit saves reading and memory.
    """

    shape: Triple
    pad: bool = False
    view_shift: Triple | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape, "RandomCrop"))
        object.__setattr__(self, "view_shift", checked_shift(self.view_shift, "RandomCrop"))

    def check(self, studies: Studies) -> Triple:
        return check_fits(studies, self.shape, self.pad, "RandomCrop")

    def starts(self, shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shapes = np.asarray(shapes, np.int64)
        num_places = np.maximum(shapes - np.array(self.shape, np.int64), 0) + 1
        inside = np.floor(rng.random(shapes.shape) * num_places).astype(np.int64)
        return np.where(shapes >= self.shape, inside, padded_starts(shapes, self.shape))

    @property
    def is_resizing(self) -> bool:
        return False

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        return self.shape if num_views == 1 else spanned(studies, self.shape, self.view_shift, num_views)

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        shapes = studies.shapes[rows]
        first = self.starts(shapes, generator_of(0))
        others = tuple(
            Boxes(starts_near(first, shapes, self.shape, self.view_shift, generator_of(view)))
            for view in range(1, num_views)
        )
        return (Boxes(first), *others)


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

    @property
    def is_resizing(self) -> bool:
        return False

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        return self.check(studies)

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        return (Boxes(np.zeros((len(rows), 3), np.int64)),) * num_views
