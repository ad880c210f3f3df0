"""Numbers behind the plots of a score: ROC points, reliability bins, histograms. It draws nothing."""

from dataclasses import dataclass

import numpy as np

NUM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed frequency in equal bins of probability; empty bins are left out.

    Attributes:
        predicted: (K,) mean probability in the bin.
        observed: (K,) share of positives in the bin.
        counts: (K,) studies in the bin.
        error: Expected calibration error: mean |predicted - observed| weighted by counts; NaN without studies.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray
    error: float


def roc_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rates, true positive rates) for falling thresholds, from (0, 0) to (1, 1).

    Args:
        labels: (N,) of 1, 0 and -1; unknown studies are left out.
        scores: (N,).

    Returns:
        Two (T,) arrays, one point per distinct score and the origin; empty when a class is missing.
    """
    known = labels >= 0
    labels, scores = labels[known], scores[known]
    num_positive, num_negative = int((labels == 1).sum()), int((labels == 0).sum())
    if num_positive == 0 or num_negative == 0:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # last of each group of ties
    hits, alarms = np.cumsum(labels[order] == 1)[is_last], np.cumsum(labels[order] == 0)[is_last]
    return np.insert(alarms / num_negative, 0, 0.0), np.insert(hits / num_positive, 0, 0.0)


def reliability(labels: np.ndarray, probabilities: np.ndarray, *, num_bins: int = NUM_BINS) -> Reliability:
    """Reliability of probabilities in [0, 1]; unknown studies (-1) are left out."""
    known = labels >= 0
    positive, probabilities = labels[known] == 1, probabilities[known]
    bins = np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    used = counts > 0
    predicted = np.bincount(bins, probabilities, minlength=num_bins)[used] / counts[used]
    observed = np.bincount(bins, positive, minlength=num_bins)[used] / counts[used]
    weights = counts[used] / max(counts.sum(), 1)
    error = float((weights * np.abs(predicted - observed)).sum()) if used.any() else float("nan")
    return Reliability(predicted, observed, counts[used], error)


def score_histograms(
    labels: np.ndarray, scores: np.ndarray, *, num_bins: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(edges (num_bins + 1,), counts of positives (num_bins,), counts of negatives (num_bins,)) on common bins."""
    known = labels >= 0
    edges = np.histogram_bin_edges(scores[known], bins=num_bins)
    counts = [np.histogram(scores[known & (labels == value)], bins=edges)[0] for value in (1, 0)]
    return edges, counts[0], counts[1]
