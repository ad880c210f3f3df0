"""The voxels a phantom is rendered on: one grid for a whole cohort, or each study at its own native resolution."""

from dataclasses import dataclass

import numpy as np

from ctclip.phantom.errors import KnobError
from ctclip.phantom.study import PhantomStudy

TOP_MM, BOTTOM_MM = 182.0, -238.0  # what a scan of the whole abdomen and pelvis covers, patient z
MAX_VOXELS = 1 << 28
SLICES_MM = (1.0, 1.25, 2.0, 2.5, 3.0, 5.0)


@dataclass(frozen=True)
class Grid:
    """Voxels to render.

    Args:
        shape: (D, H, W), each 4 or more.
        spacing_mm: (z, y, x), each from 0.1 to 50.

    Raises:
        KnobError: A shape or a spacing that no volume can have.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 4 or int(np.prod([int(n) for n in self.shape])) > MAX_VOXELS:
            raise KnobError(
                f"shape={self.shape} must be three numbers of 4 or more, at most {MAX_VOXELS} voxels in all"
            )
        if len(self.spacing_mm) != 3 or not all(0.1 <= s <= 50 for s in self.spacing_mm):
            raise KnobError(f"spacing_mm={self.spacing_mm} must be three numbers (z, y, x) from 0.1 to 50 mm")

    @classmethod
    def covering(cls, shape: tuple[int, int, int]) -> "Grid":
        """The grid of this shape that covers abdomen and pelvis: 420 x 390 x 420 mm."""
        if len(shape) != 3 or min(shape) < 4:
            raise KnobError(f"shape={shape} must be three numbers of 4 or more")
        return cls(shape, (420 / shape[0], 390 / shape[1], 420 / shape[2]))


@dataclass(frozen=True)
class NativeGrid:
    """Each study has a field of view, a slice spacing and a number of slices of its own, as scanners give them.

    Args:
        matrix: Pixels along x and y, 32 to 1024; scanners have 512.
    """

    matrix: int = 512

    def __post_init__(self) -> None:
        if not 32 <= self.matrix <= 1024:
            raise KnobError(f"matrix={self.matrix} is outside [32, 1024] pixels; scanners have 512")


def grid_of(study: PhantomStudy, grid: Grid | NativeGrid) -> Grid:
    """The grid of one study: slices of 1 to 5 mm, a field of view that holds the body, 400 to 460 mm along z."""
    if isinstance(grid, Grid):
        return grid
    rng = study.study_stream("native grid")
    slice_mm = float(rng.choice(SLICES_MM))
    pixel_mm = round(float(rng.uniform(380, 460)) / grid.matrix, 4)
    return Grid((round(rng.uniform(400, 460) / slice_mm), grid.matrix, grid.matrix), (slice_mm, pixel_mm, pixel_mm))


def grid_affine(grid: Grid) -> np.ndarray:
    """(4, 4), index (z, y, x) -> RAS+ mm of the scanner: centred in plane, from TOP_MM downwards along z.

    A grid that covers more than the abdomen and pelvis is centred on them; one that covers less loses the pelvis.
    """
    extent = [(n - 1) * s for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    bottom = TOP_MM - extent[0]
    if bottom < BOTTOM_MM:
        bottom = (TOP_MM + BOTTOM_MM - extent[0]) / 2
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = grid.spacing_mm
    affine[:, 3] = (-extent[2] / 2, -extent[1] / 2, bottom, 1.0)
    return affine
