"""The pointing game: is the place of the highest similarity to a prompt inside the finding's mask?

Axis legend: d, h, w tokens; D, H, W voxels of the mask's grid; E embedding size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ctclip.errors import EvaluationError
from ctclip.evaluation.draws import mean_over_findings
from ctclip.evaluation.statistics import draw_counts, none_if_nan, percentile_interval

NOT_ASKED, EMPTY = -1, -2


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


def pointing_report(
    hits: np.ndarray,
    chances: np.ndarray,
    *,
    findings: Sequence[str],
    patients: Sequence[str],
    num_bootstraps: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Accuracy per finding, hits / (hits + misses), and its mean over findings, with intervals over patients.

    Args:
        hits: (N, F) int8: 1 hit, 0 miss, EMPTY for a mask without a voxel in the map's box, NOT_ASKED without a mask.
        chances: (N, F) share of the box that the mask fills: what a voxel drawn at random scores. Read where hits is
            0 or 1.
        findings: (F,) names.
        patients: (N,) ids, resampled together.
        num_bootstraps: Draws.
        seed: Of the draws.
        level: Of the intervals.

    Returns:
        {"findings": {finding: {"accuracy": interval or None values, "chance", "num", "num_empty"}}, "accuracy",
        "chance", "num_findings", "num_studies"}.
    """
    asked = hits >= 0
    wins = (hits == 1).astype(np.float64)
    values = _shares(wins.sum(0), asked.sum(0))
    blocks = draw_counts(patients, num_draws=num_bootstraps, seed=seed) if len(patients) else []
    drawn = [_shares(counts @ wins, counts @ asked.astype(np.float64)) for counts in blocks]
    draws = np.concatenate(drawn) if drawn else np.zeros((0, len(findings)))
    chance = _shares(np.where(asked, chances, 0).sum(0), asked.sum(0))
    defined = asked.any(0)
    report: dict[str, Any] = {}
    for column, name in enumerate(findings):
        interval = percentile_interval(float(values[column]), draws[:, column], level=level)
        report[name] = {
            "accuracy": interval.as_dict(),
            "chance": none_if_nan(float(chance[column])),
            "num": int(asked[:, column].sum()),
            "num_empty": int((hits[:, column] == EMPTY).sum()),
        }
    mean = float(values[defined].mean()) if defined.any() else float("nan")
    return {
        "findings": report,
        "accuracy": percentile_interval(mean, mean_over_findings(draws[:, defined]), level=level).as_dict(),
        "chance": float(chance[defined].mean()) if defined.any() else None,
        "num_findings": int(defined.sum()),
        "num_studies": int(asked.any(1).sum()),
    }


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    return np.divide(parts, wholes, out=np.full(np.shape(wholes), np.nan), where=wholes > 0)
