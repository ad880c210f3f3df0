"""Prepared: one study as it goes to disk. Plain data; who made it and who writes it are not known here."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prepared:
    """One study as it goes to disk.

    Attributes:
        arrays: "0" is the image, "1", "2", ... further channels; (D, H, W) int16, C-contiguous.
        labels: Label maps, (D, H, W) uint8 or uint16, C-contiguous, 0 outside the volume.
        affine: (4, 4) float64, voxel index (z, y, x) -> RAS+ mm.
        unit: "HU", "SUV" or "arbitrary"; value in it = stored * scale + offset.
        fill_value: Stored value outside the volume.
        num_clipped_low, num_clipped_high: Voxels of all arrays beyond the preset's clip range.
        max_rounding: Largest |stored - exact| in stored units, clipped voxels left out; 0 when lossless.
        source_affine: (4, 4) float64, zyx affine of the source, before canonicalisation and resampling.
    """

    arrays: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    affine: np.ndarray
    unit: str
    scale: float
    offset: float
    fill_value: int
    num_clipped_low: int
    num_clipped_high: int
    max_rounding: float
    source_affine: np.ndarray
