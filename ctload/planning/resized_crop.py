"""Crop and resize: boxes of random size anywhere in a volume, each brought onto one output grid.

The 3D form of torchvision's RandomResizedCrop, drawn as numbers; a pipeline interpolates once, together with the
warp. Shapes and starts are in voxels, (z, y, x).
"""

from dataclasses import dataclass

import numpy as np

from ctload.errors import PlanError
from ctload.geometry import Triple
from ctload.planning.crop import Boxes, GeneratorOfView, checked_shape, checked_shift, spanned
from ctload.storage.manifest import Studies

_MARGIN = 1  # voxels read around a region, so that its rim is interpolated from the volume and not from fill


@dataclass(frozen=True)
class RandomResizedCrop:
    """A region of random size, magnified or reduced to `shape`.

    A region has shape / magnification voxels; where the volume is smaller along an axis it is the whole axis there, so
    every volume fits and none is padded. Trilinear without antialiasing: reducing by more than about 2 shows it.

    Args:
        shape: (D, H, W) of the output, in voxels.
        scale: Range of the magnification, log-uniform; 2.0 shows everything twice as large.
        stretch: Largest factor by which one axis is magnified more or less than the others, >= 1; log-uniform in
            [1 / stretch, stretch] along each axis.
        view_shift: Largest distance along (z, y, x), in voxels, between the middles of view 0 and of another view; None
            is anywhere in the volume.
    """

    shape: Triple
    scale: tuple[float, float] = (0.8, 2.0)
    stretch: float = 1.0
    view_shift: Triple | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checked_shape(self.shape, "RandomResizedCrop"))
        object.__setattr__(self, "view_shift", checked_shift(self.view_shift, "RandomResizedCrop"))
        if np.shape(self.scale) != (2,) or not (0 < self.scale[0] <= self.scale[1] < np.inf):
            raise PlanError(
                f"RandomResizedCrop needs scale as a range (low, high) with 0 < low <= high, got {self.scale}"
            )
        if not 1 <= self.stretch < np.inf:
            raise PlanError(f"RandomResizedCrop needs stretch >= 1 (1 keeps proportions), got {self.stretch}")

    @property
    def is_resizing(self) -> bool:
        return True

    def check(self, studies: Studies) -> Triple:
        return self.shape

    def max_read(self, studies: Studies, num_views: int) -> Triple:
        largest = np.ceil(np.array(self.shape) * self.stretch / self.scale[0]).astype(int)
        largest = np.minimum(largest, studies.shapes.max(axis=0)) + 2 * _MARGIN + 1
        depth, height, width = largest.tolist()
        if num_views == 1:
            return (depth, height, width)
        z, y, x = spanned(studies, (depth, height, width), self.view_shift, num_views)
        return (z + 2 * _MARGIN + 1, y + 2 * _MARGIN + 1, x + 2 * _MARGIN + 1)

    def draw(
        self, studies: Studies, rows: np.ndarray, generator_of: GeneratorOfView, num_views: int
    ) -> tuple[Boxes, ...]:
        shapes = studies.shapes[rows].astype(np.float64)
        views: list[tuple[np.ndarray, np.ndarray]] = []
        for view in range(num_views):
            uniforms = generator_of(view).random((len(rows), 7))
            size = np.minimum(self._sizes(uniforms[:, 0], uniforms[:, 1:4]), shapes)
            middle = size / 2 + uniforms[:, 4:7] * (shapes - size)
            if view and self.view_shift is not None:
                first, shift = views[0][1], np.array(self.view_shift)
                middle = np.clip(middle, first - shift, first + shift)
                middle = np.clip(middle, size / 2, shapes - size / 2)
            views.append((size, middle))
        return tuple(self._boxes(size, middle) for size, middle in views)

    def _sizes(self, place: np.ndarray, stretches: np.ndarray) -> np.ndarray:
        """(B, 3) float64, voxels of each region."""
        low, high = np.log(self.scale)
        log_scale = (low + place * (high - low))[:, None] + (2 * stretches - 1) * np.log(self.stretch)
        return np.array(self.shape) / np.exp(log_scale)

    def _boxes(self, size: np.ndarray, middle: np.ndarray) -> Boxes:
        """Whole voxels around regions of `size` about `middle`, both (B, 3), and the zoom that picks the region."""
        low = middle - size / 2
        start = np.floor(low + 1e-9).astype(np.int64) - _MARGIN
        stop = np.ceil(low + size - 1e-9).astype(np.int64) + _MARGIN
        zoom = np.stack([size / np.array(self.shape), low - start], axis=2)
        return Boxes(start, stop - start, zoom)
