"""Planes of a volume as a radiologist sees them: an axial, a coronal and a sagittal slice enter, pixels leave.

Conventions: the patient's right is at the left of axial and coronal planes, the front at the left of the sagittal
one and at the top of the axial one, the head at the top of the others. Pixels are square in mm. Knows no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctload.geometry import Triple, spacing_of
from ctload.planning.window import HuWindow

Colour = tuple[int, int, int]
_LETTERS = {
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "I": "11111 00100 00100 00100 00100 00100 11111",
}
_COLOURS: tuple[Colour, ...] = (
    (230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 155, 127), (145, 209, 194), (126, 97, 200), (240, 200, 60),
)  # fmt: skip
_GAP = 8  # pixels between planes
_OPACITY = 0.45  # of a label


@dataclass(frozen=True)
class Plane:
    """One slice through a volume.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        down, right: Array axes (0 z, 1 y, 2 x) that become rows and columns.
    """

    name: str
    down: int
    right: int

    @property
    def across(self) -> int:
        """The axis that the slice is a place on."""
        return 3 - self.down - self.right


PLANES = (Plane("axial", 1, 2), Plane("coronal", 0, 2), Plane("sagittal", 0, 1))


def axis_letters(affine: np.ndarray) -> list[tuple[str, str]]:
    """Where each array axis begins and ends in the patient, as [("I", "S"), ("P", "A"), ("L", "R")] of RAS+ (z, y, x).

    Args:
        affine: (4, 4), voxel index (z, y, x) -> RAS+ mm; of an oblique axis the closest direction is named.
    """
    letters = []
    for direction in np.asarray(affine, np.float64)[:3, :3].T:
        world = int(np.argmax(np.abs(direction)))
        low, high = ("LR", "PA", "IS")[world]
        letters.append((low, high) if direction[world] > 0 else (high, low))
    return letters


def plane_pixels(
    plane: Plane,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    window: HuWindow,
    mm_per_pixel: float,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """One plane, drawn.

    Args:
        plane: Which.
        voxels: (rows, columns) of its two axes, in the window's unit.
        affine: (4, 4) of the volume.
        window: From black to white.
        mm_per_pixel: Size of a pixel.
        labels: (rows, columns) of a label map; 0 is left as it is.

    Returns:
        (H, W, 3) uint8 with the letters of its four sides.
    """
    spacing_mm, letters = spacing_of(affine), axis_letters(affine)
    grey = np.clip((voxels.astype(np.float64) - window.low) / (window.high - window.low), 0, 1) * 255
    sides = []
    for axis, first in ((plane.down, "AS"), (plane.right, "RA")):
        is_turned = letters[axis][0] not in first  # what comes first on the screen lies at the end of the axis
        sides.append(letters[axis][::-1] if is_turned else letters[axis])
        number = max(1, round(voxels.shape[len(sides) - 1] * spacing_mm[axis] / mm_per_pixel))
        at = len(sides) - 1
        grey = _stretched(np.flip(grey, at) if is_turned else grey, at, number, is_linear=True)
        if labels is not None:
            labels = _stretched(np.flip(labels, at) if is_turned else labels, at, number, is_linear=False)
    pixels = np.repeat(grey[:, :, None], 3, axis=2)
    if labels is not None:
        inside = labels > 0
        colours = np.array(_COLOURS, np.float64)[(labels[inside].astype(np.int64) - 1) % len(_COLOURS)]
        pixels[inside] = (1 - _OPACITY) * pixels[inside] + _OPACITY * colours
    drawn = np.rint(pixels).astype(np.uint8)
    _write_letters(drawn, sides)
    return drawn


def montage(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, 3) pictures side by side, centred from top to bottom, on black."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + _GAP * (len(pictures) - 1)
    pixels, left = np.zeros((height, width, 3), np.uint8), 0
    for picture in pictures:
        top = (height - picture.shape[0]) // 2
        pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    return pixels


def extent_mm(shape: Triple, affine: np.ndarray) -> tuple[float, float, float]:
    """Size of a volume along (z, y, x)."""
    z, y, x = (size * step for size, step in zip(shape, spacing_of(affine), strict=True))
    return (z, y, x)


def _stretched(values: np.ndarray, axis: int, number: int, *, is_linear: bool) -> np.ndarray:
    """One axis of (rows, columns) brought to `number` samples, corners on corners; linear or nearest."""
    size = values.shape[axis]
    place = np.clip((np.arange(number) + 0.5) * size / number - 0.5, 0, size - 1)
    if not is_linear:
        return np.take(values, np.rint(place).astype(np.int64), axis=axis)
    low = np.floor(place).astype(np.int64)
    share = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
    high = np.minimum(low + 1, size - 1)
    return np.take(values, low, axis=axis) * (1 - share) + np.take(values, high, axis=axis) * share


def _write_letters(pixels: np.ndarray, sides: Sequence[tuple[str, str]]) -> None:
    """The letters of top and bottom, left and right, in white on black, where there is room for them."""
    height, width, _ = pixels.shape
    (top, bottom), (left, right) = sides
    for letter, row, column in (
        (top, 2, width // 2 - 8),
        (bottom, height - 20, width // 2 - 8),
        (left, height // 2 - 9, 2),
        (right, height // 2 - 9, width - 16),
    ):
        glyph = np.array([[mark == "1" for mark in line] for line in _LETTERS[letter].split()])
        drawn = np.pad(np.kron(glyph, np.ones((2, 2), bool)), 2)[:, :, None] * np.full(3, 255, np.uint8)
        place = pixels[max(row, 0) : row + drawn.shape[0], max(column, 0) : column + drawn.shape[1]]
        if place.shape == drawn.shape:
            place[...] = drawn
