"""What the scanner adds: the table, where the patient lies, the kernel and the noise.

Noise: about 12 HU at 3 mm slices and 0.8 mm pixels with a soft kernel, falling with the square root of the voxel's
size as photon statistics have it, kept above 3 HU (what reconstruction and motion leave); a sharp kernel doubles it
and overshoots at edges. Sources: Kak and Slaney, ch. 5; Solomon and Samei, Med Phys 2012. Read from memory, rounded.
"""

import numpy as np
from numba import njit

from ctclip.phantom import organs, raster
from ctclip.phantom.body import MUSCLE_MM, make_body
from ctclip.phantom.shape import Look, Scene, rotation
from ctclip.phantom.study import PhantomStudy

NOISE_HU, NOISE_VOLUME_MM3 = 12.0, 3 * 0.8 * 0.8
LEAST_NOISE_HU, MOST_NOISE_HU = 3.0, 35.0


def pose(study: PhantomStudy) -> np.ndarray:
    """(4, 4), scanner (x, y, z) mm -> patient (x, y, z) mm: a small turn about z and a shift."""
    rng = study.study_stream("pose")
    turn, x, y, z = rng.standard_normal(4) * study.variation
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(z_deg=float(np.clip(2.0 * turn, -6, 6)))
    matrix[:3, 3] = np.clip((6 * x, 5 * y, 6 * z), -14, 14)
    return matrix


def paint_table(study, hu, labels, bits, to_patient, spacing) -> None:
    """The table top: a curved shell of carbon fibre around foam, under the patient's back."""
    body = make_body(study)
    back = -(body.half_depth + MUSCLE_MM + study.patient.fat_mm) - 4
    scene = Scene()
    center, radii = (0.0, back - 12, 0.0), (230.0, 16.0, 420.0)
    scene.column(center, radii, Look(-180, organs.TABLE), square=0.6)
    scene.column(center, (226.0, 12.0, 420.0), Look(-920, organs.TABLE), square=0.6)
    rows, over = scene.packed()
    raster.paint(
        rows, over, raster.noise_table(), to_patient[:3], np.linalg.inv(to_patient)[:3], spacing, hu, labels, bits
    )


def noise_hu(spacing_mm: tuple[float, float, float], *, is_sharp: bool) -> float:
    """Standard deviation of the noise in a voxel of this spacing (z, y, x), before the knob."""
    volume = float(np.prod(spacing_mm))
    sigma = NOISE_HU * np.sqrt(NOISE_VOLUME_MM3 / volume) * (2.0 if is_sharp else 1.0)
    return float(np.clip(sigma, LEAST_NOISE_HU, MOST_NOISE_HU))


def add_scanner(study: PhantomStudy, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The volume with its kernel and noise, (D, H, W) float32.

    The series name does not enter the noise's key, so a second kernel is the same acquisition seen again.
    """
    rng = study.study_stream("noise")
    sigma = study.noise * noise_hu(spacing_mm, is_sharp=study.is_sharp)
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    out = np.empty_like(hu)
    # In-plane reach of the kernel in pixels: a soft kernel blurs about 0.7 mm, a sharp one overshoots.
    weight = 0.25 * min(1.0, (0.8 / spacing_mm[1]) ** 2)
    _filter(
        hu,
        white,
        np.float32(sigma),
        np.float32(-0.6 * weight if study.is_sharp else 0.5 * weight),
        np.float32(0.02 if study.is_sharp else 0.18),
        out,
    )
    return out


@njit(cache=True)
def _filter(hu, white, sigma, weight, correlation, out):
    """out = kernel(hu) + correlated noise; both kernels are the five-point cross in the slice, borders repeated."""
    depth, height, width = hu.shape
    scale = sigma / np.sqrt(np.float32(1.0) + 4 * correlation * correlation)
    for z in range(depth):
        for y in range(height):
            above, below = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                left, right = max(x - 1, 0), min(x + 1, width - 1)
                around = hu[z, above, x] + hu[z, below, x] + hu[z, y, left] + hu[z, y, right]
                smooth = (hu[z, y, x] + weight * around) / (1 + 4 * weight)
                grain = white[z, above, x] + white[z, below, x] + white[z, y, left] + white[z, y, right]
                out[z, y, x] = smooth + scale * (white[z, y, x] + correlation * grain)
