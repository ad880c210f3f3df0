"""Shapes of the phantom: ellipsoids, capsules and columns in mm, and how they become rows for the rasteriser.

Patient axes (x, y, z) run to the right, anterior and superior, in mm. A shape says its HU, its organ label and its
finding; where it may paint is `over`, a set of organ labels. Nothing here knows what a liver is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ctclip.phantom import distance

ANYWHERE = -1  # all bits set
KEEP = -1

Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Look:
    """What a shape is made of.

    Args:
        hu: Mean value, HU.
        organ: Organ label to write, or KEEP.
        finding: Bit of a finding, or KEEP for none.
        over: Organ labels on which it may paint; empty means everywhere.
        texture: Amplitude of value noise, HU.
        wavelength_mm: Lattice of that noise.
        reticular: Above 0, paint only strands: voxels whose noise is below this in magnitude.
        opacity: Share of the shape's HU in the mix, in (0, 1].
    """

    hu: float
    organ: int = KEEP
    finding: int = KEEP
    over: tuple[int, ...] = ()
    texture: float = 0.0
    wavelength_mm: float = 10.0
    reticular: float = 0.0
    opacity: float = 1.0


def over_bits(organs: Iterable[int]) -> int:
    """The bit set of organ labels; none given means anywhere."""
    bits = 0
    for organ in organs:
        bits |= 1 << organ
    return bits or ANYWHERE


def rotation(x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> np.ndarray:
    """(3, 3) rotation from local to patient axes: about x, then y, then z, in degrees."""
    (cx, cy, cz), (sx, sy, sz) = (f(np.deg2rad([x_deg, y_deg, z_deg])) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


class Scene:
    """Shapes in painting order. It grows while an anatomy is put together and is then packed once."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._over: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def ellipsoid(
        self,
        center: Vector,
        radii: Vector,
        look: Look,
        *,
        turn: np.ndarray | None = None,
        deform: float = 0.0,
        phases: Vector = (0.0, 0.0, 0.0),
        clip: Vector | None = None,
    ) -> None:
        """Add an ellipsoid.

        Args:
            center: mm.
            radii: mm along its own axes; each is kept at 0.3 mm or more.
            look: Its material.
            turn: (3, 3) local -> patient rotation.
            deform: Relative size of low-frequency bumps, 0 to 0.3.
            phases: Phases of the bumps and of the texture.
            clip: (nx, ny, nz, offset): only where n . p >= offset remains.
        """
        row = self._start(distance.ELLIPSOID, center, look, clip)
        row[distance.RADII : distance.RADII + 3] = np.maximum(radii, 0.3)
        local = np.eye(3) if turn is None else turn.T
        row[distance.ROTATION : distance.ROTATION + 9] = local.ravel()
        row[distance.DEFORM] = deform
        row[distance.PHASES : distance.PHASES + 3] = phases
        self._rows.append(row)

    def capsule(
        self,
        begin: Vector,
        end: Vector,
        radius_mm: float | tuple[float, float],
        look: Look,
        *,
        clip: Vector | None = None,
    ) -> None:
        """Add a tube with round ends from `begin` to `end`; two radii make it taper."""
        row = self._start(distance.CAPSULE, begin, look, clip)
        row[distance.RADII : distance.RADII + 3] = end
        radii = (radius_mm, radius_mm) if isinstance(radius_mm, (int, float)) else radius_mm
        row[distance.ROTATION : distance.ROTATION + 2] = np.maximum(radii, 0.3)
        self._rows.append(row)

    def tube(self, points: Sequence[Vector] | np.ndarray, radii_mm: float | Vector, look: Look) -> None:
        """Add capsules along a polyline, with one radius or one per point."""
        radii = [radii_mm] * len(points) if isinstance(radii_mm, (int, float)) else list(radii_mm)
        for k in range(len(points) - 1):
            self.capsule(points[k], points[k + 1], (radii[k], radii[k + 1]), look)

    def column(
        self,
        center: Vector,
        radii: Vector,
        look: Look,
        *,
        square: float,
        hole: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Add an upright column of half length radii[2].

        Args:
            center: mm.
            radii: Half axes along x and y, and half length, mm.
            look: Its material.
            square: Squareness of the cross-section, from ellipse (0) to fourth-power oval (1).
            hole: Half axes, mm, of a core that is left as it is: what a later column covers need not be painted.
        """
        row = self._start(distance.COLUMN, center, look, None)
        row[distance.RADII : distance.RADII + 3] = radii
        row[distance.DEFORM] = square
        row[distance.ROTATION : distance.ROTATION + 2] = hole
        self._rows.append(row)

    def packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N, NUM_COLUMNS) float64 and the bits of where each may paint, (N,) int64."""
        return np.array(self._rows), np.array(self._over, np.int64)

    def _start(self, kind: int, center: Vector, look: Look, clip: Vector | None) -> np.ndarray:
        row = np.zeros(distance.NUM_COLUMNS)
        row[distance.KIND] = kind
        row[distance.CENTER : distance.CENTER + 3] = center
        row[distance.HU] = look.hu
        row[distance.TEXTURE] = look.texture
        row[distance.WAVELENGTH] = look.wavelength_mm
        row[distance.RETICULAR] = look.reticular
        row[distance.OPACITY] = look.opacity
        row[distance.ORGAN] = look.organ
        row[distance.FINDING] = look.finding
        if clip is not None:
            row[distance.CLIP : distance.CLIP + 4] = clip
        self._over.append(over_bits(look.over))
        return row
