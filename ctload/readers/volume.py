"""Volume: one source as a reader gives it, rescaled to its unit. Plain data; it knows no file format and no preset."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

UNITS = ("HU", "SUV", "arbitrary")


@dataclass(frozen=True)
class Volume:
    """One source, read and rescaled, in the source's own orientation.

    Attributes:
        voxels: (D, H, W) int16, int32 or float32, in `unit`: slope and intercept are applied, nothing is clipped,
            padding and fill values of the scanner stay as they are.
        affine: (4, 4) float64, voxel index (z, y, x) -> RAS+ mm, of `voxels` as they lie here.
        unit: "HU", "SUV" or "arbitrary".
        source_affine: (4, 4) float64, the affine the source itself states. It equals `affine` unless the volume was
            turned, to lie on one grid with its label maps.
        channels: Further channels, name -> (D, H, W), same grid and unit. They are stored as arrays "1", "2", ...
            in this order.
        labels: Label maps, name -> (D, H, W) uint8 or uint16, same grid.
        quantum, quantum_offset: The values are whole multiples of `quantum` above `quantum_offset` where the source
            says so (NIfTI scl_slope and scl_inter, DICOM rescale); the native preset then stores those multiples.
        left_out: What the reader did not take, or could not take exactly, one sentence each: a localizer, a dose
            screen, lossy compression, slices that were resampled.
    """

    voxels: np.ndarray
    affine: np.ndarray
    unit: str
    source_affine: np.ndarray
    channels: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    quantum: float = 1.0
    quantum_offset: float = 0.0
    left_out: tuple[str, ...] = ()
