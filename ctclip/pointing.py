"""The pointing game: is the place of the highest similarity to a prompt inside the finding's mask?

Axis legend: d, h, w tokens; D, H, W voxels of the mask's grid; E embedding size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ctclip.errors import EvaluationError


def similarity_map(tokens_dhwE: np.ndarray, prompt_E: np.ndarray) -> np.ndarray:
    """(d, h, w) cosine of each projected token to the embedding of a prompt; 0 where a token has length 0."""
    length = np.linalg.norm(tokens_dhwE, axis=-1) * np.linalg.norm(prompt_E)
    return np.divide(tokens_dhwE @ prompt_E, length, out=np.zeros(length.shape), where=length > 0)


def highest_voxel(map_dhw: np.ndarray, shape: Sequence[int]) -> tuple[int, int, int]:
    """The voxel of a grid where a map is highest, after trilinear interpolation; the first in C order of equals.

    Map and grid cover the same box: a token's centre lies in the middle of the voxels it stands for.
    """
    axes = [
        np.clip((np.arange(size) + 0.5) * small / size - 0.5, 0, small - 1)
        for size, small in zip(shape, map_dhw.shape, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    fine = ndimage.map_coordinates(np.asarray(map_dhw, np.float64), grid, order=1, mode="nearest")
    z, y, x = np.unravel_index(int(np.argmax(fine)), fine.shape)
    return int(z), int(y), int(x)


def is_hit(
    map_dhw: np.ndarray, mask_DHW: np.ndarray, *, spacing_mm: Sequence[float], tolerance_mm: float = 0.0
) -> bool | None:
    """Whether the highest voxel lies in the mask, or within a distance of it; None for an empty mask.

    Args:
        map_dhw: Similarities.
        mask_DHW: Bool; covers the same box as the map.
        spacing_mm: (z, y, x) of the mask.
        tolerance_mm: 0 asks for a voxel of the mask.

    Raises:
        EvaluationError: A map with NaN, or a mask that is not three-dimensional.
    """
    if mask_DHW.ndim != 3 or map_dhw.ndim != 3:
        raise EvaluationError(f"map {map_dhw.shape} and mask {mask_DHW.shape} need three axes each")
    if not np.isfinite(map_dhw).all():
        raise EvaluationError("the similarity map holds values that are not finite; embed again")
    mask = mask_DHW.astype(bool)
    if not mask.any():
        return None
    voxel = highest_voxel(map_dhw, mask.shape)
    if mask[voxel] or tolerance_mm <= 0:
        return bool(mask[voxel])
    distance = ndimage.distance_transform_edt(~mask, sampling=tuple(spacing_mm))
    assert isinstance(distance, np.ndarray)
    return bool(distance[voxel] <= tolerance_mm)


def pointing_report(hits: Mapping[str, Sequence[bool | None]], *, are_organ_masks: bool = False) -> dict[str, Any]:
    """Accuracy per finding, hits / (hits + misses), and its mean over findings.

    Args:
        hits: Finding -> results of `is_hit`; None (an empty mask) is left out and counted.
        are_organ_masks: The masks show the organ, not the lesion: the score is then called anatomy_pointing_accuracy.
    """
    findings: dict[str, Any] = {}
    for name, results in hits.items():
        known = [result for result in results if result is not None]
        accuracy = sum(known) / len(known) if known else None
        findings[name] = {"accuracy": accuracy, "num": len(known), "num_without_mask": len(results) - len(known)}
    defined = [entry["accuracy"] for entry in findings.values() if entry["accuracy"] is not None]
    title = "anatomy_pointing_accuracy" if are_organ_masks else "pointing_accuracy"
    return {title: float(np.mean(defined)) if defined else None, "findings": findings}
