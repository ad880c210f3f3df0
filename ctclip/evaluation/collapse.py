"""Collapse of an embedding space: do texts of different groups still point in different directions?

Groups are anatomies, sections or findings. All numbers describe cosines between unit vectors; the verdicts
`is_collapsed` and `is_bell_shaped` are working definitions, stated where they are made.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctclip.errors import EvaluationError
from ctclip.evaluation.statistics import none_if_nan
from ctclip.evaluation.zeroshot import unit_rows

HISTOGRAM_BINS = 50
MAX_MEAN, MIN_SD = 0.9, 0.02  # a mean cosine above, or a spread below, counts as collapsed
MAX_SKEW, MAX_KURTOSIS, MIN_BELL_SD = 1.0, 2.0, 0.05


def collapse_report(embeddings: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Diagnostics of N embeddings in groups.

    Args:
        embeddings: (N, E).
        groups: (N,) names; two groups at least.

    Returns:
        Of the cosines across groups: mean, sd, p5, p50, p95, share above 0.9, skewness, excess kurtosis, Jarque-Bera
        and a histogram of 50 bins on [-1, 1]. Of both kinds: gap (mean within less mean across) and Cohen's d. Of the
        space: nearest_centroid_accuracy, effective_rank, uniformity. None where undefined.

    Raises:
        EvaluationError: Fewer than two groups, or embeddings that are NaN or of length 0.
    """
    vectors = unit_rows(embeddings, what="text", names=[str(group) for group in groups])
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise EvaluationError(f"{len(names)} group of embeddings; collapse is between groups, give two at least")
    cosines = np.clip(vectors @ vectors.T, -1, 1)
    upper = np.triu_indices(len(vectors), k=1)
    is_across = (group[:, None] != group[None, :])[upper]
    across, within = cosines[upper][is_across], cosines[upper][~is_across]
    report = {**_distribution(across), **_separation(across, within)}
    has_neighbours = len(names) < len(vectors)
    report["nearest_centroid_accuracy"] = _nearest_centroid(vectors, group, len(names)) if has_neighbours else None
    report["effective_rank"] = none_if_nan(effective_rank(vectors))
    report["uniformity"] = float(math.log(np.mean(np.exp(-2 * (2 - 2 * cosines[upper])))))
    return {"num_embeddings": len(vectors), "num_groups": len(names), **report}


def effective_rank(vectors: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of the centred vectors (N, E); NaN when all are equal."""
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    if values.sum() < 1e-9:
        return math.nan
    shares = values[values > 0] / values.sum()
    return float(math.exp(-(shares * np.log(shares)).sum()))


def _distribution(cosines: np.ndarray) -> dict[str, Any]:
    mean, sd = float(cosines.mean()), float(cosines.std())
    skewness, kurtosis = math.nan, math.nan
    if sd > 1e-9:
        standard = (cosines - mean) / sd
        skewness, kurtosis = float((standard**3).mean()), float((standard**4).mean() - 3)
    counts, _ = np.histogram(cosines, bins=HISTOGRAM_BINS, range=(-1, 1))
    p5, p50, p95 = np.percentile(cosines, [5, 50, 95])
    is_bell = abs(skewness) < MAX_SKEW and abs(kurtosis) < MAX_KURTOSIS and sd > MIN_BELL_SD
    return {
        "mean": mean,
        "sd": sd,
        "p5": float(p5),
        "p50": float(p50),
        "p95": float(p95),
        "share_above_0.9": float((cosines > 0.9).mean()),
        "skewness": none_if_nan(skewness),
        "kurtosis": none_if_nan(kurtosis),
        "jarque_bera": none_if_nan(len(cosines) / 6 * (skewness**2 + kurtosis**2 / 4)),
        "histogram": counts.tolist(),
        "is_collapsed": mean > MAX_MEAN or sd < MIN_SD,
        "is_bell_shaped": bool(is_bell),
    }


def _separation(across: np.ndarray, within: np.ndarray) -> dict[str, float | None]:
    if len(within) == 0:
        return {"mean_within": None, "gap": None, "cohen_d": None}
    gap = float(within.mean() - across.mean())
    pooled = math.sqrt(
        (len(within) * float(within.var()) + len(across) * float(across.var())) / (len(within) + len(across))
    )
    return {"mean_within": float(within.mean()), "gap": gap, "cohen_d": gap / pooled if pooled > 1e-9 else None}


def _nearest_centroid(vectors: np.ndarray, group: np.ndarray, num_groups: int) -> float:
    """Share of vectors nearest to their own group's mean, each left out of it; ties count as misses."""
    sums = np.stack([vectors[group == k].sum(0) for k in range(num_groups)])
    sizes = np.bincount(group, minlength=num_groups)
    hits = 0
    for row, own in enumerate(group):
        means = sums.copy()
        means[own] -= vectors[row]
        counts = sizes - (np.arange(num_groups) == own)
        length = np.linalg.norm(means, axis=1)
        usable = (counts > 0) & (length > 1e-12)
        similarity = np.where(usable, means @ vectors[row] / np.maximum(length, 1e-12), -np.inf)
        rivals = np.delete(similarity, own)
        hits += bool(similarity[own] > rivals.max() + 1e-12)
    return hits / len(group)
