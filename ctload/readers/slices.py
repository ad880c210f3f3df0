"""From the positions of single slices to one regular grid, or to the code that says why there is none.

What enters: ImagePositionPatient, ImageOrientationPatient and PixelSpacing of every slice, as arrays. What leaves:
the order along the slice normal and one affine. It knows no DICOM library, and it never averages irregular gaps.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctload.errors import GeometryError, IngestError

# Two slices cannot show whether the spacing is regular.
MIN_SLICES = 3

# Direction cosines and pixel spacings (mm) of one series may differ by their last written digits.
MAX_COSINE_DIFFERENCE = 1e-3
MAX_SPACING_DIFFERENCE_MM = 1e-3

# If more of the gaps than this are whole multiples of the others, the series was planned so; else slices are missing.
MAX_WIDE_GAPS = 0.4

# Positions nearer than this are one position.
MIN_GAP_MM = 0.01

# How far a slice may lie from the regular grid, in gaps: scanners round positions to a few digits.
MAX_GRID_DEVIATION = 0.05

# How far the stack may drift sideways from its first to its last slice, in pixels, before it counts as tilted.
MAX_DRIFT_PIXELS = 0.5

# (x, y, z) LPS of DICOM to RAS.
RAS_OF_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SliceGeometry:
    """Where slices say they lie; N slices in any order.

    Attributes:
        position_mm: (N, 3), centre of the first pixel, LPS (ImagePositionPatient).
        orientation: (N, 6), direction cosines of increasing column, then of increasing row, LPS.
        spacing_mm: (N, 2), between rows, between columns (PixelSpacing).
        shape: (N, 2), rows and columns.
    """

    position_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: np.ndarray
    shape: np.ndarray


@dataclass(frozen=True)
class Stack:
    """Slices as one grid.

    Attributes:
        order: (N,) int64, the slices along the normal (row direction x column direction), lowest first.
        affine: (4, 4) float64, voxel index (z, y, x) -> RAS+ mm, z in that order.
    """

    order: np.ndarray
    affine: np.ndarray


def stack_of(slices: SliceGeometry, path: str | Path) -> Stack:
    """The one regular grid of these slices.

    Args:
        slices: Of one series.
        path: The source, for messages.

    Raises:
        IngestError: TOO_FEW_SLICES.
        GeometryError: NO_GEOMETRY, MIXED_ORIENTATION, MIXED_SPACING, DUPLICATE_POSITION, GANTRY_TILT, GAP,
            NON_UNIFORM, in this order.
    """
    order = order_of(slices, path)
    along_x, along_y, normal = directions_of(slices.orientation[0], path)
    position_mm = slices.position_mm[order]
    step_mm = (position_mm[-1] - position_mm[0]) / (len(order) - 1)
    row_mm, column_mm = slices.spacing_mm[0]
    _require_upright(position_mm, step_mm, normal, min(row_mm, column_mm), path)
    _require_even(position_mm @ normal, path)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step_mm, along_y * row_mm, along_x * column_mm], axis=1)
    affine[:3, 3] = position_mm[0]
    affine[:3] *= RAS_OF_LPS[:, None]
    return Stack(order, affine + 0.0)  # no negative zeros


def order_of(slices: SliceGeometry, path: str | Path) -> np.ndarray:
    """(N,) int64, the slices along their normal, lowest first.

    Raises:
        IngestError: TOO_FEW_SLICES.
        GeometryError: NO_GEOMETRY, MIXED_ORIENTATION, MIXED_SPACING, DUPLICATE_POSITION.
    """
    num_slices = len(slices.position_mm)
    if num_slices < MIN_SLICES:
        raise IngestError(
            "TOO_FEW_SLICES",
            f"{num_slices} slice(s), a volume needs at least {MIN_SLICES}; is the series complete?",
            path=path,
        )
    _require_one_plane(slices, path)
    height_mm = slices.position_mm @ directions_of(slices.orientation[0], path)[2]
    order = np.argsort(height_mm, kind="stable")
    _require_distinct(height_mm[order], path)
    return order


def directions_of(orientation: np.ndarray, path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of increasing column, of increasing row, and their normal, LPS.

    Raises:
        GeometryError: NO_GEOMETRY.
    """
    along_x, along_y = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(along_x), np.linalg.norm(along_y)
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(along_x @ along_y) > MAX_COSINE_DIFFERENCE:
        raise GeometryError(
            "NO_GEOMETRY", f"ImageOrientationPatient {orientation.tolist()} is no pair of unit vectors", path=path
        )
    along_x, along_y = along_x / lengths[0], along_y / lengths[1]
    return along_x, along_y, np.cross(along_x, along_y)


def _require_one_plane(slices: SliceGeometry, path: str | Path) -> None:
    turned = np.abs(slices.orientation - slices.orientation[0]).max()
    if turned > MAX_COSINE_DIFFERENCE:
        raise GeometryError(
            "MIXED_ORIENTATION",
            f"direction cosines differ by up to {turned:.4f} between slices, at most {MAX_COSINE_DIFFERENCE:g} is one "
            "orientation; split the series by orientation",
            path=path,
        )
    scaled = np.abs(slices.spacing_mm - slices.spacing_mm[0]).max()
    if scaled > MAX_SPACING_DIFFERENCE_MM or (slices.shape != slices.shape[0]).any():
        raise GeometryError(
            "MIXED_SPACING",
            f"pixel spacings differ by up to {scaled:.4f} mm and slices have {_listed(slices.shape)} pixels; split the "
            "series by field of view",
            path=path,
        )


def _listed(shapes: np.ndarray) -> str:
    return ", ".join(f"{rows}x{columns}" for rows, columns in np.unique(shapes, axis=0))


def _require_distinct(height_mm: np.ndarray, path: str | Path) -> None:
    gaps_mm = np.diff(height_mm)
    num_same = int((gaps_mm < MIN_GAP_MM).sum())
    if num_same:
        first = height_mm[int(np.argmin(gaps_mm))]
        raise GeometryError(
            "DUPLICATE_POSITION",
            f"{num_same} of {len(height_mm)} slices lie where another one lies, one pair at {first:.2f} mm along the "
            "normal; the series holds several phases, echoes or copies: split it",
            path=path,
        )


def _require_upright(
    position_mm: np.ndarray, step_mm: np.ndarray, normal: np.ndarray, pixel_mm: float, path: str | Path
) -> None:
    sideways = step_mm - (step_mm @ normal) * normal
    drift_mm = float(np.linalg.norm(sideways)) * (len(position_mm) - 1)
    if drift_mm > MAX_DRIFT_PIXELS * pixel_mm:
        angle = np.degrees(np.arccos(np.clip(step_mm @ normal / np.linalg.norm(step_mm), -1, 1)))
        raise GeometryError(
            "GANTRY_TILT",
            f"the stack leans by {angle:.1f} degrees from the slice normal, {drift_mm:.1f} mm from first to last "
            "slice; correct the tilt first (dcm2niix does), or ask for resample_irregular",
            path=path,
        )
    # Slices that jump sideways one by one share no grid either.
    steps = position_mm - position_mm[0] - np.arange(len(position_mm))[:, None] * step_mm
    jumps_mm = float(np.linalg.norm(steps - (steps @ normal)[:, None] * normal, axis=1).max())
    if jumps_mm > MAX_DRIFT_PIXELS * pixel_mm:
        raise GeometryError(
            "NON_UNIFORM",
            f"a slice lies {jumps_mm:.2f} mm beside the others in its plane, at most {MAX_DRIFT_PIXELS:g} pixel is one "
            "grid; split the series by field of view",
            path=path,
        )


def _require_even(height_mm: np.ndarray, path: str | Path) -> None:
    gaps_mm = np.diff(height_mm)
    even = np.linspace(height_mm[0], height_mm[-1], len(height_mm))
    median_mm = float(np.median(gaps_mm))
    if np.abs(height_mm - even).max() <= MAX_GRID_DEVIATION * median_mm:
        return
    sizes, counts = np.unique(np.round(gaps_mm, 3), return_counts=True)
    found = ", ".join(f"{size:g} mm x {count}" for size, count in list(zip(sizes, counts, strict=True))[:8])
    multiples = gaps_mm / median_mm
    is_grid = np.abs(multiples - np.rint(multiples)).max() <= MAX_GRID_DEVIATION
    if is_grid and (multiples > 1.5).mean() <= MAX_WIDE_GAPS:
        where = height_mm[int(np.argmax(gaps_mm))]
        raise GeometryError(
            "GAP",
            f"{int((np.rint(multiples) - 1).sum())} slice(s) of a {median_mm:g} mm grid are missing, the first after "
            f"{where:.2f} mm along the normal (gaps: {found}); fetch the whole series again",
            path=path,
        )
    raise GeometryError(
        "NON_UNIFORM",
        f"the gaps between slices differ ({found}); fetch a series of one spacing, or ask for resample_irregular",
        path=path,
    )
