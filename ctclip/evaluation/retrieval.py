"""Retrieval: how often a study's own report is among the K nearest to its image, and the reverse.

Embeddings in, recalls out. Ties count as a random order would, so equal embeddings score no better than chance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctclip.errors import EvaluationError
from ctclip.evaluation.statistics import draw_counts, percentile_interval
from ctclip.evaluation.zeroshot import unit_rows

DEFAULT_KS = (1, 5, 10, 50, 100)
_BLOCK = 512  # queries compared at once


def retrieval_report(
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    studies: Sequence[str],
    patients: Sequence[str],
    *,
    ks: Sequence[int] = DEFAULT_KS,
    num_bootstraps: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Recall@K both ways with intervals over patients, beside the random baseline K / N.

    Args:
        image_embeddings: (N, E).
        text_embeddings: (N, E) of the same studies' reports, row by row.
        studies: (N,) ids.
        patients: (N,) ids, resampled together.
        ks: Values of K; those above N are left out.
        num_bootstraps: Draws; the pool to be searched stays the whole one.
        seed: Of the draws.

    Raises:
        EvaluationError: Shapes that differ, or embeddings that are NaN or of length 0.
    """
    if np.shape(image_embeddings) != np.shape(text_embeddings):
        shapes = f"{np.shape(image_embeddings)} and {np.shape(text_embeddings)}"
        raise EvaluationError(f"image and text embeddings of shapes {shapes} do not pair up; embed the same studies")
    images = unit_rows(image_embeddings, what="image", names=list(studies))
    texts = unit_rows(text_embeddings, what="text", names=list(studies))
    ks = [k for k in ks if k <= len(images)]
    report: dict[str, Any] = {"num_studies": len(images), "ks": ks}
    for name, queries, pool in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        ranks = match_ranks(queries, pool)
        hits = np.stack([hit_chances(*ranks, k) for k in ks], axis=1)  # (N, K)
        blocks = draw_counts(patients, num_draws=num_bootstraps, seed=seed)
        draws = np.concatenate([(counts @ hits) / counts.sum(1, keepdims=True) for counts in blocks])
        values = hits.mean(0)
        intervals = [percentile_interval(float(value), draws[:, k]) for k, value in enumerate(values)]
        report[name] = {
            "recall": {str(k): interval.as_dict() for k, interval in zip(ks, intervals, strict=True)},
            "median_rank": float(np.median(ranks[0] + ranks[1] / 2 + 1)),
        }
    report["random"] = {str(k): k / len(images) for k in ks}
    return report


def match_ranks(queries: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query i: (how many of the pool are nearer than pool[i], how many others are as near).

    Args:
        queries: (N, E) unit rows.
        pool: (N, E) unit rows; pool[i] is what query i looks for.
    """
    nearer, equal = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(queries)))
        similarity = np.round(queries[rows] @ pool.T, 12)  # equal vectors differ in the last bits of a product
        own = similarity[np.arange(len(rows)), rows][:, None]
        nearer[rows] = (similarity > own).sum(1)
        equal[rows] = (similarity == own).sum(1) - 1
    return nearer, equal


def hit_chances(nearer: np.ndarray, equal: np.ndarray, k: int) -> np.ndarray:
    """(N,) chance in [0, 1] that the match is among the first k when ties are broken at random."""
    return np.clip((k - nearer) / (equal + 1), 0, 1)
