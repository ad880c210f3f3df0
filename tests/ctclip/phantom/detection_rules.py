"""One simple measured rule per finding: voxels of a volume and of its organ mask in, one number out.

Each rule measures HU, volume or length inside an organ; none looks at the finding mask. Larger means more likely
present. Volumes are at about 2 mm; arrays are (D, H, W) in RAS+ order of (z, y, x).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctclip.phantom import organs


@dataclass(frozen=True)
class Rule:
    """A rule, and the part of the body that is rendered for it: some organs, a margin, at most `slab_mm` along z
    and `width_mm` in the plane, about the middle."""

    organs: tuple[int, ...]
    measure: Callable[[np.ndarray, np.ndarray], float]
    margin_mm: float = 12.0
    slab_mm: float = 1000.0
    width_mm: float = 1000.0


def count_between(low: float, high: float, *labels: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """How many voxels of some organs have HU in [low, high)."""

    def measure(hu: np.ndarray, mask: np.ndarray) -> float:
        inside = hu[np.isin(mask, labels)]
        return float(np.count_nonzero((inside >= low) & (inside < high)))

    return measure


def count_core_between(low: float, high: float, *labels: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """The same in the organ's core: two voxels of rim are left out, and the volume is smoothed."""

    def measure(hu: np.ndarray, mask: np.ndarray) -> float:
        core = ndimage.binary_erosion(np.isin(mask, labels), iterations=2)
        smooth = ndimage.uniform_filter(hu.astype(np.float32), 3)[core]
        return float(np.count_nonzero((smooth >= low) & (smooth < high)))

    return measure


def volume(*labels: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda hu, mask: float(np.count_nonzero(np.isin(mask, labels)))


def extent(label: int, axis: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """Length of an organ along an axis, voxels."""
    return lambda hu, mask: float(np.count_nonzero((mask == label).any(axis=tuple(a for a in range(3) if a != axis))))


def widest_slice(label: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """Largest axial area of an organ, voxels."""
    return lambda hu, mask: float((mask == label).sum(axis=(1, 2)).max())


def dark_liver(hu: np.ndarray, mask: np.ndarray) -> float:
    """Voxels of the liver's core well below its median, those of vessels and ducts excluded by their size."""
    core = ndimage.binary_erosion(mask == organs.LIVER, iterations=2)
    smooth = ndimage.uniform_filter(hu.astype(np.float32), 3)
    return float(np.count_nonzero(smooth[core] < np.median(hu[core]) - 22))


def minus_spleen(hu: np.ndarray, mask: np.ndarray) -> float:
    return float(np.median(hu[mask == organs.SPLEEN]) - np.median(hu[mask == organs.LIVER]))


def away_from_hilum(hu: np.ndarray, mask: np.ndarray, distance: float) -> np.ndarray:
    """Kidney voxels farther than `distance` voxels from the sinus fat, and so from the collecting system in it."""
    kidney = mask == organs.KIDNEY
    fat = ndimage.binary_opening(kidney & (ndimage.uniform_filter(hu.astype(np.float32), 3) < -35))
    return kidney & (ndimage.distance_transform_edt(~fat) > distance)


def dark_spots_in_cortex(hu: np.ndarray, mask: np.ndarray) -> float:
    """Dark voxels in the kidneys, away from rim and hilum."""
    kidney = ndimage.binary_erosion(mask == organs.KIDNEY) & away_from_hilum(hu, mask, 6.0)
    return float(np.count_nonzero(kidney & (hu < 130)))


def water_away_from_hilum(hu: np.ndarray, mask: np.ndarray) -> float:
    smooth = ndimage.uniform_filter(hu.astype(np.float32), 3)
    region = away_from_hilum(hu, mask, 6.0)
    return float(np.count_nonzero((smooth[region] > -15) & (smooth[region] < 40)))


def dense_in_heart(is_inner: bool) -> Callable[[np.ndarray, np.ndarray], float]:
    """Calcium (above 260 HU) in the inner part of the heart, or in its outer rim and the fat around it."""

    def measure(hu: np.ndarray, mask: np.ndarray) -> float:
        near = ndimage.binary_dilation(mask == organs.HEART, iterations=3) & np.isin(
            mask, (organs.HEART, organs.MEDIASTINUM)
        )
        depth = ndimage.distance_transform_edt(near)
        region = near & ((depth > 8) if is_inner else (depth <= 8))
        return float(np.count_nonzero(hu[region] > 260))

    return measure


def dense_in_aorta(hu: np.ndarray, mask: np.ndarray) -> float:
    """Calcium (above 250 HU in the venous phase) in and around the aorta, away from the spine."""
    near = ndimage.binary_dilation(mask == organs.AORTA, iterations=2)
    near &= ~ndimage.binary_dilation(np.isin(mask, (organs.SPINE, organs.BONE)), iterations=2)
    near &= mask != organs.KIDNEY
    return float(np.count_nonzero(hu[near] > 250))


def metal_by_liver(hu: np.ndarray, mask: np.ndarray) -> float:
    near = ndimage.binary_dilation(np.isin(mask, (organs.LIVER, organs.GALLBLADDER)), iterations=4)
    near &= ~np.isin(mask, (organs.BONE, organs.SPINE))
    return float(hu[near].max())


def bile_by_liver(hu: np.ndarray, mask: np.ndarray) -> float:
    """Water-density voxels in the liver and in the ducts beside it (the gallbladder has its own label)."""
    liver = mask == organs.LIVER
    away = ndimage.binary_dilation(np.isin(mask, (organs.GALLBLADDER, organs.KIDNEY)), iterations=3)
    near = ndimage.binary_erosion(liver, iterations=2) | (mask == organs.DUCT)
    return float(np.count_nonzero((hu[near & ~away] > -15) & (hu[near & ~away] < 40)))


def hernia_in_chest(hu: np.ndarray, mask: np.ndarray) -> float:
    """Stomach in the mediastinum: voxels of it on slices where there is lung on both sides and heart in front."""
    slices = (mask == organs.HEART).sum(axis=(1, 2)) > 60
    return float(np.count_nonzero(mask[slices] == organs.STOMACH))


def stranding_at_appendix(hu: np.ndarray, mask: np.ndarray) -> float:
    """Mean HU of the cavity's fat within 2 cm of the appendix, plus the appendix's volume in ml."""
    appendix = mask == organs.APPENDIX
    near = ndimage.binary_dilation(appendix, iterations=8) & (mask == organs.CAVITY_FAT)
    return float(hu[near].mean() / 20 + np.count_nonzero(appendix) * 0.008)


def widened_disc_space(hu: np.ndarray, mask: np.ndarray) -> float:
    """By how many slices a soft gap between vertebral bodies exceeds the mean of its neighbours, at most.

    The stretch below the lowest vertebra is no gap.
    """
    spine = mask == organs.SPINE
    x = int(np.median(np.argwhere(spine)[:, 2]))
    rows = [np.flatnonzero(plane.any(axis=1)) for plane in spine]
    means = [hu[z, row.max() - 9 : row.max() - 3, x - 3 : x + 4].mean() for z, row in enumerate(rows) if len(row)]
    gaps = [len(run) for run in "".join("g" if mean < 125 else " " for mean in means).split()][1:]
    return max(gaps[k] - (gaps[k - 1] + gaps[k + 1]) / 2 for k in range(1, len(gaps) - 1))


def mean_of(label: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda hu, mask: float(hu[mask == label].mean())


def soft_marrow(hu: np.ndarray, mask: np.ndarray) -> float:
    core = ndimage.binary_erosion(mask == organs.SPINE, iterations=3)
    return -float(np.percentile(hu[core], 60))


RULES: dict[str, Rule] = {
    "submucosal_edema": Rule((organs.COLON,), count_core_between(5, 28, organs.COLON)),
    "renal_hypodensities": Rule((organs.KIDNEY,), dark_spots_in_cortex),
    "aortic_valve_calcification": Rule((organs.HEART,), dense_in_heart(True)),
    "coronary_calcification": Rule((organs.HEART,), dense_in_heart(False)),
    "thrombosis": Rule((organs.VEIN,), count_core_between(20, 90, organs.VEIN)),
    "metastatic_disease": Rule((organs.LIVER,), dark_liver),
    "pancreatic_atrophy": Rule((organs.PANCREAS,), lambda hu, mask: -volume(organs.PANCREAS)(hu, mask)),
    "renal_cyst": Rule((organs.KIDNEY,), water_away_from_hilum),
    "osteopenia": Rule((organs.SPINE,), soft_marrow),
    "surgically_absent_gallbladder": Rule((organs.GALLBLADDER,), metal_by_liver, margin_mm=20.0),
    "atelectasis": Rule((organs.LUNG,), count_core_between(20, 140, organs.LUNG)),
    "abdominal_aortic_aneurysm": Rule((organs.AORTA,), widest_slice(organs.AORTA)),
    "anasarca": Rule((organs.AORTA,), mean_of(organs.SUBCUTANEOUS), margin_mm=150.0, slab_mm=16.0),
    "hiatal_hernia": Rule((organs.HEART,), hernia_in_chest, margin_mm=30.0),
    "lymphadenopathy": Rule((organs.AORTA,), volume(organs.NODE), margin_mm=40.0),
    "prostatomegaly": Rule((organs.PROSTATE,), volume(organs.PROSTATE)),
    "biliary_ductal_dilation": Rule((organs.LIVER,), bile_by_liver, slab_mm=90.0),
    "cardiomegaly": Rule((organs.HEART,), extent(organs.HEART, 2), margin_mm=40.0, slab_mm=50.0),
    "splenomegaly": Rule((organs.SPLEEN,), extent(organs.SPLEEN, 0), margin_mm=70.0, width_mm=60.0),
    "hepatomegaly": Rule((organs.LIVER,), extent(organs.LIVER, 0), margin_mm=70.0, width_mm=90.0),
    "atherosclerosis": Rule((organs.AORTA,), dense_in_aorta),
    "ascites": Rule((organs.LIVER,), count_between(-10, 30, organs.CAVITY_FAT, organs.FLUID), slab_mm=60.0),
    "pleural_effusion": Rule((organs.LUNG,), count_core_between(-10, 30, organs.LUNG, organs.PLEURA)),
    "hepatic_steatosis": Rule((organs.LIVER, organs.SPLEEN), minus_spleen, margin_mm=0.0, slab_mm=40.0),
    "appendicitis": Rule((organs.APPENDIX,), stranding_at_appendix, margin_mm=24.0),
    "gallstones": Rule((organs.GALLBLADDER,), count_between(130, 1000, organs.GALLBLADDER)),
    "hydronephrosis": Rule((organs.KIDNEY,), count_between(-10, 30, organs.KIDNEY)),
    "bowel_obstruction": Rule((organs.SMALL_BOWEL,), widest_slice(organs.SMALL_BOWEL)),
    "free_air": Rule((organs.LIVER,), count_between(-1100, -900, organs.CAVITY_FAT, organs.GAS), slab_mm=60.0),
    "fracture": Rule((organs.SPINE,), widened_disc_space, margin_mm=0.0),
}
