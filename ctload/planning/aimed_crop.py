"""Aimed crops: boxes drawn where a volume holds foreground or a label, from block tables made when it was packed.

Nothing is read but the manifest. A block is drawn by how much it holds, a voxel of it uniformly, and the crop is
centred there as far as the volume allows: a crop of at least two blocks along each axis holds the whole block.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctload.errors import PlanError
from ctload.geometry import Triple
from ctload.planning.crop import (
    Boxes,
    GeneratorOfView,
    check_fits,
    checked_shape,
    checked_shift,
    padded_starts,
    spanned,
)
from ctload.storage.blocks import BlockTable, decode_blocks
from ctload.storage.manifest import Studies

Weights = tuple[np.ndarray, np.ndarray]
"""Blocks and how much each holds."""
_NUM_UNIFORMS = 9  # coin, value, block, voxel z y x, place z y x


@dataclass(frozen=True)
class ForegroundCrop:
    """Crops centred on the body: HU above -500, in other units above the fill value.

    Args:
        shape: (D, H, W) in voxels.
        pad: Whether a volume may be smaller; it is then centred and padded along that axis.
        probability: That a crop is aimed; else it is drawn as RandomCrop draws. A study without any foreground is
            always drawn so.
        view_shift: As of RandomCrop.
    """

    shape: Triple
    pad: bool = False
    probability: float = 1.0
    view_shift: Triple | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape, "ForegroundCrop"))
        object.__setattr__(self, "view_shift", checked_shift(self.view_shift, "ForegroundCrop"))
        _check_probability(self.probability, "ForegroundCrop")

    @property
    def is_resizing(self) -> bool:
        return False

    def check(self, studies: Studies) -> Triple:
        _check_tables(studies, "ForegroundCrop")
        return check_fits(studies, self.shape, self.pad, "ForegroundCrop")

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        return self.shape if num_views == 1 else spanned(studies, self.shape, self.view_shift, num_views)

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        return _draw_aimed(self, _foreground, studies, rows, generator_of, num_views)


@dataclass(frozen=True)
class LabelCrop:
    """Crops centred on a label: one of its values is drawn first, each alike, then one of its voxels.

    Args:
        shape: (D, H, W) in voxels.
        label: Name of the label map.
        values: Values to aim at; None is every value above 0.
        pad: As of ForegroundCrop.
        probability: That a crop is aimed, 1/3 in nnU-Net; else, and in studies without these values, it is drawn as
            RandomCrop draws.
        view_shift: As of RandomCrop.
    """

    shape: Triple
    label: str
    values: tuple[int, ...] | None = None
    pad: bool = False
    probability: float = 1.0
    view_shift: Triple | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape, "LabelCrop"))
        object.__setattr__(self, "view_shift", checked_shift(self.view_shift, "LabelCrop"))
        _check_probability(self.probability, "LabelCrop")
        if self.values is not None:
            object.__setattr__(self, "values", tuple(self.values))
            if not self.values or any(int(value) != value or value < 1 for value in self.values):
                raise PlanError(f"LabelCrop needs values of a label map >= 1, or None for all, got {self.values}")

    @property
    def is_resizing(self) -> bool:
        return False

    def check(self, studies: Studies) -> Triple:
        _check_tables(studies, "LabelCrop")
        known = set(studies.table["labels"].combine_chunks().flatten().to_pylist())
        if self.label not in known:
            raise PlanError(f"LabelCrop aims at the label map {self.label!r}, but these studies have {sorted(known)}")
        return check_fits(studies, self.shape, self.pad, "LabelCrop")

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        return self.shape if num_views == 1 else spanned(studies, self.shape, self.view_shift, num_views)

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        return _draw_aimed(self, self._weights, studies, rows, generator_of, num_views)

    def _weights(self, table: BlockTable, uniform: float) -> Weights:
        of_map = table.labels.get(self.label, {})
        values = [value for value in (sorted(of_map) if self.values is None else self.values) if value in of_map]
        if not values:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return of_map[values[int(uniform * len(values))]]


def _foreground(table: BlockTable, uniform: float) -> Weights:
    blocks = np.flatnonzero(table.foreground)
    return blocks, table.foreground[blocks]


def _draw_aimed(
    crop: ForegroundCrop | LabelCrop,
    weights_of: Callable[[BlockTable, float], Weights],
    studies: Studies,
    rows: np.ndarray,
    generator_of: GeneratorOfView,
    num_views: int,
) -> tuple[Boxes, ...]:
    """The boxes of each view; a further view is moved to within view_shift of the first."""
    shapes = studies.shapes[rows]
    tables = [decode_blocks(text) for text in studies.table["blocks"].take(rows).to_pylist()]
    views: list[np.ndarray] = []
    for view in range(num_views):
        uniforms = generator_of(view).random((len(rows), _NUM_UNIFORMS))
        starts = np.stack(
            [
                _start(table, shape, crop.shape, crop.probability, weights_of, drawn)
                for table, shape, drawn in zip(tables, shapes, uniforms, strict=True)
            ]
        )
        if view and crop.view_shift is not None:
            shift = np.array(crop.view_shift, np.int64)
            starts = np.clip(starts, views[0] - shift, views[0] + shift)
        views.append(np.where(shapes >= np.array(crop.shape), starts, padded_starts(shapes, crop.shape)))
    return tuple(Boxes(starts) for starts in views)


def _start(
    table: BlockTable,
    shape: np.ndarray,
    crop_shape: Triple,
    probability: float,
    weights_of: Callable[[BlockTable, float], Weights],
    uniforms: np.ndarray,
) -> np.ndarray:
    """(3,) int64, the first voxel of one crop in a volume of `shape` (D, H, W)."""
    last = np.maximum(shape - np.array(crop_shape), 0)
    blocks, weights = weights_of(table, float(uniforms[1]))
    if uniforms[0] >= probability or len(blocks) == 0:
        return np.floor(uniforms[6:9] * (last + 1)).astype(np.int64)
    drawn = np.searchsorted(np.cumsum(weights), uniforms[2] * weights.sum(), side="right")
    corner = table.corner(int(blocks[drawn]))
    size = np.minimum(corner + np.array(table.edge), shape) - corner
    voxel = corner + np.floor(uniforms[3:6] * size).astype(np.int64)
    return np.clip(voxel - np.array(crop_shape) // 2, 0, last)


def _check_probability(probability: float, name: str) -> None:
    if not 0 <= probability <= 1:
        raise PlanError(f"{name} needs a probability in [0, 1], got {probability}")


def _check_tables(studies: Studies, name: str) -> None:
    """Refuse studies without block tables.

    Raises:
        PlanError: A store of an earlier version.
    """
    lacks = pc.call_function("equal", [studies.table["blocks"], pa.scalar("")]).to_numpy()
    if lacks.any():
        row = int(lacks.argmax())
        raise PlanError(
            f"{name} draws from block tables, and this study was packed without one; pack its source into a new "
            "store, or take RandomCrop",
            study=studies.table["study"][row].as_py(),
        )
