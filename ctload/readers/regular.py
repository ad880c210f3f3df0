"""Whether an affine describes one regular, right-angled grid: what every reader asks before it gives a Volume."""

from pathlib import Path

import numpy as np

from ctload.errors import GeometryError

# Cosine between two voxel axes above which a grid counts as sheared: 1e-3 moves the far end of a 500 mm volume by
# 0.5 mm. float32 affines and DICOM cosines with six decimals stay below 1e-5.
MAX_COSINE = 1e-3

# Spacings outside this range, in mm, are damage or another unit of length, not a scanner.
SPACING_RANGE_MM = (0.01, 1000.0)


def require_regular(affine: np.ndarray, path: str | Path) -> None:
    """Refuse an affine that no resampling along axes can be right for.

    Args:
        affine: (4, 4), voxel index -> mm.
        path: The source, for the message.

    Raises:
        GeometryError: NO_GEOMETRY for numbers that are no finite, non-zero spacings; SHEARED for axes that do not
            stand at right angles.
    """
    linear = np.asarray(affine, np.float64)[:3, :3]
    with np.errstate(over="ignore"):
        lengths_mm = np.linalg.norm(linear, axis=0)
    low, high = SPACING_RANGE_MM
    if not np.isfinite(affine).all() or not ((lengths_mm >= low) & (lengths_mm <= high)).all():
        raise GeometryError(
            "NO_GEOMETRY",
            f"the affine gives voxel axes of {np.array2string(lengths_mm, precision=3)} mm, which must lie in "
            f"{low:g}..{high:g} mm; convert the series again from its DICOM files",
            path=path,
        )
    cosines = np.abs((linear / lengths_mm).T @ (linear / lengths_mm) - np.eye(3))
    if cosines.max() > MAX_COSINE:
        raise GeometryError(
            "SHEARED",
            f"two voxel axes have a cosine of {cosines.max():.4f}, at most {MAX_COSINE:g} is a right angle; this is an "
            "uncorrected gantry tilt or a registration result: resample it to a right-angled grid first",
            path=path,
        )
