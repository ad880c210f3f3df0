"""Grids in space: boxes of voxels, affines, and the one canonical orientation.

Voxel indices are (z, y, x) everywhere. An affine is 4x4 and maps a voxel index (z, y, x, 1) to RAS+ mm
(x right, y anterior, z superior). This file knows nothing of files or of what a voxel means.
"""

from dataclasses import dataclass

import numpy as np

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels, (z, y, x). It may reach past a volume; the reader pads there."""

    start: Triple
    stop: Triple

    @property
    def shape(self) -> Triple:
        return (
            self.stop[0] - self.start[0],
            self.stop[1] - self.start[1],
            self.stop[2] - self.start[2],
        )

    @classmethod
    def whole(cls, shape: Triple) -> "Box":
        """The box of a whole volume of `shape` (D, H, W)."""
        return cls((0, 0, 0), (int(shape[0]), int(shape[1]), int(shape[2])))


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Spacing in mm along (z, y, x): the lengths of the affine's first three columns."""
    lengths = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


def from_xyz_affine(affine_xyz: np.ndarray) -> np.ndarray:
    """The (z, y, x) affine of an (x, y, z) one, as NIfTI has it. It is its own inverse."""
    return np.asarray(affine_xyz, np.float64)[:, [2, 1, 0, 3]]


def box_affine(affine: np.ndarray, start: Triple) -> np.ndarray:
    """The affine of the sub-volume that begins at voxel `start` (z, y, x)."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ np.asarray(start, np.float64)
    return moved


def canonical_axes(affine: np.ndarray) -> tuple[Triple, tuple[bool, bool, bool]]:
    """Which array axis goes along (superior, anterior, right), and which of them must be flipped.

    Args:
        affine: (4, 4), voxel index -> RAS+ mm.

    Returns:
        `axes`: for each canonical axis (z, y, x) the source axis that lies closest to it (the assignment
        with the largest sum of absolute cosines); `flips`: whether that axis runs the other way.
    """
    linear = np.asarray(affine, np.float64)[:3, :3]
    cosines = linear / np.linalg.norm(linear, axis=0)
    permutations: list[Triple] = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    # Rows of `cosines` are the world axes R, A, S; canonical (z, y, x) wants S, A, R.
    world_rows = (2, 1, 0)
    best = max(
        permutations,
        key=lambda axes: sum(abs(cosines[row, axis]) for row, axis in zip(world_rows, axes, strict=True)),
    )
    z, y, x = (bool(cosines[row, axis] < 0) for row, axis in zip(world_rows, best, strict=True))
    return best, (z, y, x)


def to_canonical(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip axes so that the index (z, y, x) rises to superior, anterior, right.

    No voxel is interpolated: an oblique volume stays oblique and its affine says so.

    Args:
        voxels: (D, H, W).
        affine: (4, 4), voxel index (axis 0, 1, 2) -> RAS+ mm.

    Returns:
        The volume as a view of `voxels`, and its affine (4, 4) float64.
    """
    axes, flips = canonical_axes(affine)
    turned = np.transpose(voxels, axes)
    moved = np.asarray(affine, np.float64)[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            moved[:3, 3] += moved[:3, axis] * (turned.shape[axis] - 1)
            moved[:3, axis] *= -1
    index = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    return turned[index], moved
