"""BatchPlan: every random decision of one batch as plain arrays. Drawn by samplers, crops and augmentations,
executed by pipelines. It can be printed, compared and replayed without reading a voxel.

Conventions that every pipeline keeps:

- Boxes are in voxels of the stored array, (z, y, x), and may reach past the volume: the reader pads with the
  volume's fill value. Without `zoom` a box has crop_shape.
- Order: read the box, zoom it onto the output's grid, flip, warp, blur, coarsen, photometric pass. Zoom, flip and
  warp are one affine map and cost one interpolation.
- `zoom[b, a]`: (scale, shift) of axis a, from a voxel centre of the unflipped output to the box:
  index_in + 0.5 = scale (index_out + 0.5) + shift. Trilinear, no antialiasing.
- `flip[b, a]`: axis a of (z, y, x) is mirrored.
- `warp[b]` is a 3x4 matrix A|t in (z, y, x) order that maps a voxel centre of the output to the input,
  half-voxel convention: (index_in + 0.5) = A (index_out + 0.5) + t. Trilinear. Outside the flipped crop the
  value is interpolated towards the fill value (SciPy's `grid-constant`). With a zoom that holds outside the box.
- Label maps take part in zoom, flip and warp, by nearest neighbour, with 0 outside; in nothing else.
- `blur_sigma[b]` in voxels, (z, y, x); 0 means none; border `mirror`, radius ceil(3 sigma).
- `coarse_shape[b]`: the crop is averaged onto so many voxels, (z, y, x), and interpolated back
  (ctload/voxels/coarsening.py): what thicker slices and larger pixels show. Equal to crop_shape means nothing.
- Photometric pass, per window channel w: v = clip((hu - low) / (high - low), 0, 1);
  v = (v - 0.5) * contrast + 0.5 + brightness; v = clip(v, 0, 1) ** gamma;
  v = v + noise_sigma * normal(noise_key, channel, voxel); v = clip(v, 0, 1).
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from ctload.errors import SamplerError
from ctload.geometry import Triple


@dataclass(frozen=True)
class BatchPlan:
    """One batch, drawn. B is its number of studies: the global batch, or one rank's slice of it.

    With several views a plan is that of view 0, and holds those of the others. All have the same rows.

    Attributes:
        epoch, step: Coordinates in the run; step counts batches from the start of the epoch.
        unit: The text unit of this batch ("report", or the name of a section); "" where there is none.
        rows: (B,) int64, rows of the Studies this plan was drawn for.
        box_start: (B, 3) int64, first voxel of each crop.
        crop_shape: (D, H, W) of each crop, and of the output.
        flip: (B, 3) bool.
        warp: (B, 3, 4) float64, or None when no study of this loader is ever warped.
        blur_sigma: (B, 3) float32 in voxels, or None when no study of this loader is ever blurred.
        window: (B, W, 2) float32, low and high in HU.
        brightness, contrast, gamma, noise_sigma: (B,) float32.
        noise_key: (B,) uint64, the key of each study's noise.
        box_shape: (B, 3) int64, (D, H, W) of each box, or None where every box has crop_shape.
        zoom: (B, 3, 2) float64, or None where no box is resized.
        coarse_shape: (B, 3) int64, or None when no study of this loader is ever coarsened.
        other_views: Plans of view 1, 2, ...
    """

    epoch: int
    step: int
    unit: str
    rows: np.ndarray
    box_start: np.ndarray
    crop_shape: Triple
    flip: np.ndarray
    warp: np.ndarray | None
    blur_sigma: np.ndarray | None
    window: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    gamma: np.ndarray
    noise_sigma: np.ndarray
    noise_key: np.ndarray
    box_shape: np.ndarray | None = None
    zoom: np.ndarray | None = None
    coarse_shape: np.ndarray | None = None
    other_views: tuple["BatchPlan", ...] = ()

    @property
    def batch_size(self) -> int:
        return len(self.rows)

    @property
    def views(self) -> tuple["BatchPlan", ...]:
        """The plan of every view, this one first."""
        return (self, *self.other_views)

    @property
    def box_shapes(self) -> np.ndarray:
        """(B, 3) int64, (D, H, W) of each box."""
        return (
            np.tile(np.array(self.crop_shape, np.int64), (self.batch_size, 1))
            if self.box_shape is None
            else (self.box_shape)
        )

    def read_boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """First voxel and shape, both (B, 3) int64, of what is read of each study: the boxes of all views."""
        start = np.min([view.box_start for view in self.views], axis=0)
        stop = np.max([view.box_start + view.box_shapes for view in self.views], axis=0)
        return start, stop - start

    def take(self, index: np.ndarray | slice) -> "BatchPlan":
        """The plan of some of its studies."""
        taken = {
            field.name: value[index]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, **taken, other_views=tuple(view.take(index) for view in self.other_views))

    def rank_slice(self, rank: int, world_size: int) -> "BatchPlan":
        """The contiguous slice of rank `rank` of `world_size`. Concatenated, the slices are the plan."""
        if not 0 <= rank < world_size:
            raise SamplerError(f"rank must lie in 0..{world_size - 1}, got {rank}")
        if self.batch_size % world_size:
            raise SamplerError(
                f"world_size={world_size} does not divide batch_size={self.batch_size}; "
                "choose a batch_size that is a multiple of the number of ranks"
            )
        per_rank = self.batch_size // world_size
        return self.take(slice(rank * per_rank, (rank + 1) * per_rank))
