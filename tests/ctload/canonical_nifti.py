"""NIfTI files that are canonical already, so that a native store holds exactly their voxels."""

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 20, 16)


def voxels_of(seed: int, *, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(D, H, W) int16, random."""
    return np.random.default_rng((5, seed)).integers(-1000, 1500, shape).astype(np.int16)


def write_nifti(path: Path, voxels: np.ndarray) -> np.ndarray:
    """Write (D, H, W) voxels of 0.8 x 0.8 x 2.5 mm, and give them back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([0.8, 0.8, 2.5, 1.0])), path)
    return voxels
