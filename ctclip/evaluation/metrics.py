"""Scores of one finding, for many weightings of the studies at once. NumPy only, no randomness.

Every function takes labels (N,) of 0 and 1, scores or predictions (N,), and weights (..., N): how often each study
counts. Without weights each counts once; a bootstrap gives one row of counts per draw and gets one value per row.
Undefined is NaN, never a number: a weighting without positives, or without negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve: the Mann-Whitney probability that a positive outscores a negative, ties 1/2.

    Returns:
        (...) float64, one value per row of weights; 0-d without weights.
    """
    order, ends = _tie_groups(scores)
    weights = _weights(weights, len(order))[..., order]
    positive = np.where(labels[order] == 1, weights, 0)
    positives, negatives = (_group_sums(part, ends) for part in (positive, weights - positive))
    below = np.cumsum(negatives, axis=-1) - negatives
    wins = (positives * (below + negatives / 2)).sum(-1)
    return _ratio(wins, positives.sum(-1) * negatives.sum(-1))


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Step-wise area under precision and recall: sum over thresholds of (R_n - R_(n-1)) P_n, no interpolation.

    Returns:
        (...) float64, one value per row of weights.
    """
    order, ends = _tie_groups(-scores)
    weights = _weights(weights, len(order))[..., order]
    positives = _group_sums(np.where(labels[order] == 1, weights, 0), ends)
    hits = np.cumsum(positives, axis=-1)
    called = np.cumsum(_group_sums(weights, ends), axis=-1)
    gained = positives * hits / np.maximum(called, 1e-300)
    both_classes = np.where(called[..., -1] > hits[..., -1], hits[..., -1], 0)
    return _ratio(gained.sum(-1), both_classes)


@dataclass(frozen=True)
class Confusion:
    """Weighted counts, each (...) float64: true and false positives, false and true negatives."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def is_defined(self) -> np.ndarray:
        """(...) bool: both classes are there."""
        return (self.tp + self.fn > 0) & (self.fp + self.tn > 0)


def confusion(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> Confusion:
    """Confusion counts of predictions (N,) bool."""
    weights = _weights(weights, len(labels))
    cells = np.stack([predicted & (labels == 1), predicted & (labels == 0), ~predicted & (labels == 1),
                      ~predicted & (labels == 0)], axis=1)  # fmt: skip
    if weights.dtype.kind != "f":
        weights = weights.astype(np.float64)  # small integers would overflow in the sum
    tp, fp, fn, tn = np.moveaxis(weights @ cells.astype(weights.dtype), -1, 0).astype(np.float64)
    return Confusion(tp, fp, fn, tn)


def f1(counts: Confusion) -> np.ndarray:
    """F1 of the positive class; 0 when no positive is found."""
    return _defined(counts, 2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def f1_weighted(counts: Confusion) -> np.ndarray:
    """Mean of both classes' F1 weighted by class size (scikit-learn's `weighted`); high when positives are rare."""
    positives, negatives = counts.tp + counts.fn, counts.fp + counts.tn
    negative_f1 = _defined(counts, 2 * counts.tn, 2 * counts.tn + counts.fp + counts.fn)
    return (positives * f1(counts) + negatives * negative_f1) / (positives + negatives)


def f1_balanced(counts: Confusion) -> np.ndarray:
    """F1 of the positive class if both classes had the same size: 2 TPR / (1 + TPR + FPR)."""
    tpr, fpr = sensitivity(counts), 1 - specificity(counts)
    return 2 * tpr / (1 + tpr + fpr)


def sensitivity(counts: Confusion) -> np.ndarray:
    """Share of positives found (TPR, recall)."""
    return _defined(counts, counts.tp, counts.tp + counts.fn)


def specificity(counts: Confusion) -> np.ndarray:
    """Share of negatives left alone (1 - FPR)."""
    return _defined(counts, counts.tn, counts.tn + counts.fp)


def balanced_accuracy(counts: Confusion) -> np.ndarray:
    """Mean of sensitivity and specificity."""
    return (sensitivity(counts) + specificity(counts)) / 2


def mcc(counts: Confusion) -> np.ndarray:
    """Matthews correlation; 0 when all studies are called alike."""
    product = counts.tp * counts.tn - counts.fp * counts.fn
    called, left = counts.tp + counts.fp, counts.fn + counts.tn
    scale = np.sqrt(called) * np.sqrt(left) * np.sqrt(counts.tp + counts.fn) * np.sqrt(counts.fp + counts.tn)
    return _defined(counts, product, scale)


COUNT_METRICS: dict[str, Callable[[Confusion], np.ndarray]] = {
    "f1": f1,
    "f1_weighted": f1_weighted,
    "f1_balanced_expected": f1_balanced,
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
    "sensitivity": sensitivity,
    "specificity": specificity,
}
RANK_METRICS = {"auroc": auroc, "average_precision": average_precision}


def _weights(weights: np.ndarray | None, num: int) -> np.ndarray:
    return np.ones(num) if weights is None else weights


def _tie_groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in rising order of key, and the position of each tie group's first row."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts


def _group_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    if len(starts) == values.shape[-1]:
        return values.astype(np.float64)
    return np.add.reduceat(values, starts, axis=-1).astype(np.float64)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom > 0)


def _defined(counts: Confusion, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, 0 where bottom is 0, NaN where a class is missing."""
    value = np.divide(top, bottom, out=np.zeros(np.shape(bottom)), where=bottom > 0)
    return np.where(counts.is_defined, value, np.nan)
