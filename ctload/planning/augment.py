"""Augmentations as numbers: ranges and probabilities enter, one set of parameters per study leaves.

Only drawing happens here; the pipelines execute. Each kind of change draws from a generator of its own, and draws
for every study whether or not its coin falls: switching one kind on, or changing its probability or range, leaves
the draws of all others as they were. Order and meaning of the changes: ctload/planning/plan.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctload.errors import PlanError
from ctload.geometry import Triple

Floats3 = tuple[float, float, float]
Range = tuple[float, float]
GeneratorOf = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class Changes:
    """What was drawn for B studies; the fields of BatchPlan with the same names, and `window_shift_hu` (B, 2)."""

    flip: np.ndarray
    warp: np.ndarray | None
    blur_sigma: np.ndarray | None
    brightness: np.ndarray
    contrast: np.ndarray
    gamma: np.ndarray
    noise_sigma: np.ndarray
    window_shift_hu: np.ndarray
    coarse_shape: np.ndarray | None


@dataclass(frozen=True)
class Augment:
    """Random changes of a batch. The default changes nothing.

    Angles, scale and shift make one affine warp about the centre of the crop, rigid in mm whatever the spacing. A
    kind's probability is the chance that a study is changed by it; otherwise the study keeps the neutral value.

    Args:
        flip: Probability of mirroring each axis (z, y, x). Mirroring x swaps left and right, which a report names.
        rotate_deg: Largest angle about (z, y, x), in degrees; drawn uniformly in [-angle, angle].
        rotate_probability: Of any rotation.
        scale: Range of the magnification, log-uniform; 2.0 shows everything twice as large.
        scale_probability: Of a magnification.
        translate_voxels: Largest shift along (z, y, x), in voxels; drawn uniformly in [-shift, shift].
        translate_probability: Of a shift.
        blur_sigma: Range of the Gaussian's sigma in voxels, uniform, one value for the three axes.
        blur_probability: Of a blur.
        coarsen: Largest factor along (z, y, x) by which the grid is made coarser, log-uniform in [1, factor] along each
            axis; (3, 1, 1) simulates slices up to three times as thick.
        coarsen_probability: Of coarsening.
        brightness: Largest offset in units of the window [0, 1], uniform in [-offset, offset].
        brightness_probability: Of an offset.
        contrast: Range of the factor about the window's middle, uniform.
        contrast_probability: Of a factor.
        gamma: Range of the exponent, log-uniform.
        gamma_probability: Of an exponent.
        noise_sigma: Range of the added noise's standard deviation, in units of the window, uniform.
        noise_probability: Of noise.
        window_jitter_hu: Largest shift of a window's two ends, each for itself, in HU, uniform.
        window_jitter_probability: Of a shift.

    Raises:
        PlanError: A probability outside [0, 1], a range upside down, or a value without meaning.

    Example:
        >>> augment = Augment(flip=(0, 0.5, 0), rotate_deg=(10, 0, 0), noise_sigma=(0, 0.02), noise_probability=0.3)
        >>> augment.is_warping
        True
    """

    flip: Floats3 = (0.0, 0.0, 0.0)
    rotate_deg: Floats3 = (0.0, 0.0, 0.0)
    rotate_probability: float = 1.0
    scale: Range = (1.0, 1.0)
    scale_probability: float = 1.0
    translate_voxels: Floats3 = (0.0, 0.0, 0.0)
    translate_probability: float = 1.0
    blur_sigma: Range = (0.0, 0.0)
    blur_probability: float = 1.0
    coarsen: Floats3 = (1.0, 1.0, 1.0)
    coarsen_probability: float = 1.0
    brightness: float = 0.0
    brightness_probability: float = 1.0
    contrast: Range = (1.0, 1.0)
    contrast_probability: float = 1.0
    gamma: Range = (1.0, 1.0)
    gamma_probability: float = 1.0
    noise_sigma: Range = (0.0, 0.0)
    noise_probability: float = 1.0
    window_jitter_hu: float = 0.0
    window_jitter_probability: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "flip" or name.endswith("_probability"):
                _check_probability(name, value)
        for name in ("rotate_deg", "translate_voxels"):
            _check_three(name, getattr(self, name))
        for name in ("scale", "contrast", "gamma"):
            _check_range(name, getattr(self, name), above=0.0, strict=True)
        for name in ("blur_sigma", "noise_sigma"):
            _check_range(name, getattr(self, name), above=0.0, strict=False)
        if np.shape(self.coarsen) != (3,) or not all(1 <= part < np.inf for part in self.coarsen):
            raise PlanError(f"Augment needs coarsen as three largest factors >= 1 along (z, y, x), got {self.coarsen}")
        for name in ("brightness", "window_jitter_hu"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise PlanError(f"Augment needs {name} >= 0 (the largest change), got {getattr(self, name)}")

    @property
    def is_warping(self) -> bool:
        """Whether any study can be warped."""
        return (
            (any(self.rotate_deg) and self.rotate_probability > 0)
            or (tuple(self.scale) != (1.0, 1.0) and self.scale_probability > 0)
            or (any(self.translate_voxels) and self.translate_probability > 0)
        )

    @property
    def is_blurring(self) -> bool:
        """Whether any study can be blurred."""
        return self.blur_sigma[1] > 0 and self.blur_probability > 0

    @property
    def is_coarsening(self) -> bool:
        """Whether any study can be coarsened."""
        return any(part > 1 for part in self.coarsen) and self.coarsen_probability > 0

    def draw(self, num: int, crop_shape: Triple, spacings_mm: np.ndarray, generator_of: GeneratorOf) -> Changes:
        """Draw the changes of a batch.

        Args:
            num: B, studies in the batch.
            crop_shape: (D, H, W) in voxels; the warp turns about its centre.
            spacings_mm: (B, 3), mm along (z, y, x).
            generator_of: The generator of a kind of change, by its name.
        """
        of = generator_of
        return Changes(
            flip=_several(of, "flip", num, 3) < np.array(self.flip) if any(self.flip) else np.zeros((num, 3), bool),
            warp=self._draw_warp(num, crop_shape, spacings_mm, of) if self.is_warping else None,
            blur_sigma=self._draw_blur(num, of) if self.is_blurring else None,
            brightness=_one(of, "brightness", num, self.brightness_probability, _around(self.brightness)),
            contrast=_one(of, "contrast", num, self.contrast_probability, self.contrast, neutral=1.0),
            gamma=np.exp(_one(of, "gamma", num, self.gamma_probability, _log(self.gamma))),
            noise_sigma=_one(of, "noise", num, self.noise_probability, self.noise_sigma),
            window_shift_hu=_around_zero(
                of, "window", num, self.window_jitter_probability, (self.window_jitter_hu,) * 2
            ),
            coarse_shape=self._draw_coarse(num, crop_shape, of) if self.is_coarsening else None,
        )

    def _draw_coarse(self, num: int, crop_shape: Triple, of: GeneratorOf) -> np.ndarray:
        """(B, 3) int64, at least 1 voxel along each axis."""
        uniforms = _several(of, "coarsen", num, 4)
        logs = np.where(uniforms[:, :1] < self.coarsen_probability, uniforms[:, 1:] * np.log(self.coarsen), 0.0)
        return np.maximum(np.rint(np.array(crop_shape) / np.exp(logs)), 1).astype(np.int64)

    def _draw_blur(self, num: int, of: GeneratorOf) -> np.ndarray:
        """(B, 3) float32 voxels."""
        return np.repeat(_one(of, "blur", num, self.blur_probability, self.blur_sigma)[:, None], 3, axis=1)

    def _draw_warp(self, num: int, crop_shape: Triple, spacings_mm: np.ndarray, of: GeneratorOf) -> np.ndarray:
        """(B, 3, 4) float64."""
        angles = _around_zero(of, "rotate", num, self.rotate_probability, self.rotate_deg)
        log_scales = _one(of, "scale", num, self.scale_probability, _log(self.scale), dtype=np.float64)
        shifts = _around_zero(of, "translate", num, self.translate_probability, self.translate_voxels)
        return warp_matrices(crop_shape, spacings_mm, angles, np.exp(log_scales), shifts)


def warp_matrices(
    crop_shape: Triple, spacings_mm: np.ndarray, angles_deg: np.ndarray, scales: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """The warp of BatchPlan for content that is turned, magnified about the crop's centre, then shifted.

    With S the spacings, R the rotation, s the magnification, c the centre (shape / 2 in half-voxel coordinates) and
    u the shift: S (out - c - u) = s R S (in - c), hence in = A out + t with A = S^-1 R^T S / s and t = c - A (c + u).

    Args:
        crop_shape: (D, H, W) in voxels.
        spacings_mm: (B, 3), mm along (z, y, x).
        angles_deg: (B, 3), about z (turns y towards x), then y (z towards x), then x (z towards y).
        scales: (B,), > 1 shows content larger.
        shifts: (B, 3), content moves by so many voxels towards higher indices.

    Returns:
        (B, 3, 4) float64, A|t; exactly the identity for zero angles, scale 1 and no shift.
    """
    turned = np.eye(3)
    for axis in range(3):
        turned = _rotation(axis, np.deg2rad(angles_deg[:, axis])) @ turned
    spacings = np.asarray(spacings_mm, np.float64)
    linear = turned.transpose(0, 2, 1) * (spacings[:, None, :] / spacings[:, :, None])
    linear /= np.asarray(scales, np.float64)[:, None, None]
    center = np.array(crop_shape, np.float64) / 2
    offset = center - np.einsum("bij,bj->bi", linear, center + shifts)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def _rotation(axis: int, angles: np.ndarray) -> np.ndarray:
    """(B, 3, 3), turning the lower of the other two axes towards the higher one by `angles` (B,) in radians."""
    low, high = (other for other in range(3) if other != axis)
    matrices = np.repeat(np.eye(3)[None], len(angles), axis=0)
    cosine, sine = np.cos(angles), np.sin(angles)
    matrices[:, low, low] = matrices[:, high, high] = cosine
    matrices[:, high, low], matrices[:, low, high] = sine, -sine
    return matrices


def _around(largest: float) -> Range:
    return (-largest, largest)


def _log(span: Range) -> Range:
    return (float(np.log(span[0])), float(np.log(span[1])))


def _several(of: GeneratorOf, kind: str, num: int, columns: int) -> np.ndarray:
    """(num, columns) float64 in [0, 1) from the kind's own generator."""
    return of(kind).random((num, columns))


def _one(
    of: GeneratorOf,
    kind: str,
    num: int,
    probability: float,
    span: Range,
    *,
    neutral: float = 0.0,
    dtype: type = np.float32,
) -> np.ndarray:
    """(B,): uniform in `span` where the study's coin falls, else `neutral`."""
    if tuple(span) == (neutral, neutral):
        return np.full(num, neutral, dtype)
    coin, place = _several(of, kind, num, 2).T
    return np.where(coin < probability, span[0] + place * (span[1] - span[0]), neutral).astype(dtype)


def _around_zero(of: GeneratorOf, kind: str, num: int, probability: float, largest: tuple[float, ...]) -> np.ndarray:
    """(B, K) float64: uniform in [-largest, largest] along each column where the coin falls, else 0."""
    if not any(largest):
        return np.zeros((num, len(largest)))
    uniforms = _several(of, kind, num, 1 + len(largest))
    return np.where(uniforms[:, :1] < probability, (2 * uniforms[:, 1:] - 1) * np.array(largest, np.float64), 0.0)


def _check_probability(name: str, value: float | Floats3) -> None:
    if not all(0 <= part <= 1 for part in np.atleast_1d(value)):
        raise PlanError(f"Augment needs probabilities in [0, 1], got {name}={value}")
    if name == "flip" and np.shape(value) != (3,):
        raise PlanError(f"Augment needs one flip probability per axis (z, y, x), got flip={value}")


def _check_three(name: str, value: Floats3) -> None:
    if np.shape(value) != (3,) or not all(np.isfinite(part) and part >= 0 for part in value):
        raise PlanError(f"Augment needs {name} as three largest values >= 0 along (z, y, x), got {value}")


def _check_range(name: str, value: Range, *, above: float, strict: bool) -> None:
    good = np.shape(value) == (2,) and np.isfinite(value).all() and value[0] <= value[1]
    if not good or value[0] < above or (strict and value[0] == above):
        sign = "<" if strict else "<="
        raise PlanError(f"Augment needs {name} as a range (low, high) with {above} {sign} low <= high, got {value}")
