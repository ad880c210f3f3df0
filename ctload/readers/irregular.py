"""Slices with gantry tilt or varying gaps, resampled to one right-angled grid of even gaps.

The grid keeps the plane of the slices: each slice is shifted within its plane to where it lies (bilinear), and new
slices are interpolated linearly between the two they lie between. The spacing along the normal is the median gap,
stretched so that the first and the last slice are kept. Never done unasked.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctload.errors import GeometryError
from ctload.readers.slices import RAS_OF_LPS, SliceGeometry, directions_of

# A gap wider than this many median gaps is missing anatomy, not a varying spacing.
MAX_GAP_RATIO = 3.0


@dataclass(frozen=True)
class Straightened:
    """The resampled volume: (D, H, W) float32 and its affine, (z, y, x) -> RAS+ mm."""

    voxels: np.ndarray
    affine: np.ndarray


def straightened(voxels: np.ndarray, slices: SliceGeometry, order: np.ndarray, fill: float, path: Path) -> Straightened:
    """Resample irregular slices.

    Args:
        voxels: (N, H, W), lowest slice first.
        slices: Their geometry, in file order.
        order: (N,), file order -> order of `voxels`.
        fill: Value where no slice reaches.
        path: The source, for messages.

    Raises:
        GeometryError: GAP where a gap is wider than MAX_GAP_RATIO median gaps.
    """
    along_x, along_y, normal = directions_of(slices.orientation[0], path)
    position_mm = slices.position_mm[order]
    row_mm, column_mm = slices.spacing_mm[0]
    heights_mm = _even_heights(position_mm @ normal, path)
    # How far each slice lies from the first corner of the grid, in voxels of its plane.
    across = position_mm @ np.stack([along_y / row_mm, along_x / column_mm], axis=1)  # (N, 2)
    corner = across.min(axis=0)
    shifts = across - corner
    extra = np.ceil(np.round(shifts.max(axis=0), 3)).astype(int)
    shape = (len(heights_mm), voxels.shape[1] + extra[0], voxels.shape[2] + extra[1])
    affine = np.eye(4)
    step_mm = heights_mm[1] - heights_mm[0]
    affine[:3, :3] = np.stack([normal * step_mm, along_y * row_mm, along_x * column_mm], axis=1)
    affine[:3, 3] = along_y * corner[0] * row_mm + along_x * corner[1] * column_mm + normal * heights_mm[0]
    affine[:3] *= RAS_OF_LPS[:, None]
    return Straightened(_interpolated(voxels, position_mm @ normal, heights_mm, shifts, shape, fill), affine + 0.0)


def _even_heights(heights_mm: np.ndarray, path: Path) -> np.ndarray:
    gaps_mm = np.diff(heights_mm)
    median_mm = float(np.median(gaps_mm))
    if gaps_mm.max() > MAX_GAP_RATIO * median_mm:
        raise GeometryError(
            "GAP",
            f"a gap of {gaps_mm.max():.1f} mm among gaps of {median_mm:.1f} mm is missing anatomy, which no "
            "interpolation gives back; fetch the whole series",
            path=path,
        )
    num_steps = max(round((heights_mm[-1] - heights_mm[0]) / median_mm), 1)
    return np.linspace(heights_mm[0], heights_mm[-1], num_steps + 1)


def _interpolated(
    voxels: np.ndarray,
    heights_mm: np.ndarray,
    wanted_mm: np.ndarray,
    shifts: np.ndarray,
    shape: tuple[int, int, int],
    fill: float,
) -> np.ndarray:
    """(D, H, W) float32; fill where a slice that counts does not reach, so that nothing is extrapolated."""
    out = np.empty(shape, np.float32)
    above = np.clip(np.searchsorted(heights_mm, wanted_mm - 1e-6), 1, len(heights_mm) - 1)
    placed: dict[int, np.ndarray] = {}
    for number, upper in enumerate(above):
        lower = upper - 1
        # Two slices are held at a time.
        placed = {i: placed[i] if i in placed else _placed(voxels[i], shifts[i], shape[1:]) for i in (lower, upper)}
        part = (wanted_mm[number] - heights_mm[lower]) / (heights_mm[upper] - heights_mm[lower])
        if part < 1e-6:
            values = placed[lower]
        elif part > 1 - 1e-6:
            values = placed[upper]
        else:
            values = (1 - part) * placed[lower] + part * placed[upper]
        out[number] = np.where(np.isnan(values), fill, values)
    return out


def _placed(image: np.ndarray, shift: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The slice (H, W) moved by `shift` voxels (rows, columns) into a larger frame; NaN where it does not reach."""
    values = _moved(image.astype(np.float64), float(shift[0]), shape[0])
    return _moved(values.T, float(shift[1]), shape[1]).T


def _moved(lines: np.ndarray, shift: float, size: int) -> np.ndarray:
    """The first axis moved by `shift` and laid into `size`, linear; NaN where it does not reach."""
    where = np.round(np.arange(size) - shift, 6)  # source index of each new line
    out = np.full((size, lines.shape[1]), np.nan)
    inside = np.flatnonzero((where >= 0) & (where <= len(lines) - 1))
    lower = np.floor(where[inside]).astype(int)
    part = (where[inside] - lower)[:, None]
    if part.any():
        out[inside] = lines[lower] * (1 - part) + lines[np.minimum(lower + 1, len(lines) - 1)] * part
    else:
        out[inside] = lines[lower]
    return out
