"""Where to cut a score: rules that choose a threshold from labelled scores.

A threshold chosen on the studies it is judged on flatters the score; who chooses it, and on which split, is the
caller's business and stands in every stamp (see ctclip.evaluation.report).
"""

from collections.abc import Callable

import numpy as np

from ctclip.errors import EvaluationError
from ctclip.evaluation.metrics import Confusion, f1, mcc, sensitivity, specificity

GRID = np.linspace(0, 1, 100)
"""Thresholds on probabilities that the corner rule tries."""


def corner_threshold(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """(threshold, distance) of the ROC point nearest to (FPR 0, TPR 1) on GRID; the last one when several are.

    Predictions are `probability > threshold`. The rule of the CT-CLIP, fVLM and HLIP evaluations.

    Args:
        labels: (N,) of 0 and 1, both there.
        probabilities: (N,) in [0, 1].
    """
    counts = _counts_above(labels, probabilities, GRID)
    # Equal distances by different sums must stay equal, or rounding would choose among them.
    distance = np.round(np.hypot(1 - sensitivity(counts), 1 - specificity(counts)), 12)
    best = len(GRID) - 1 - int(np.argmin(distance[::-1]))
    return float(GRID[best]), float(distance[best])


def best_threshold(labels: np.ndarray, probabilities: np.ndarray, value: Callable[[Confusion], np.ndarray]) -> float:
    """The cut between two neighbouring probabilities that maximises `value`; the middle one of equals."""
    levels = np.unique(probabilities)
    cuts = np.concatenate([[levels[0] - 1e-6], (levels[:-1] + levels[1:]) / 2])
    reached = value(_counts_above(labels, probabilities, cuts))
    best = np.flatnonzero(reached == reached.max())
    return float(cuts[best[len(best) // 2]])


def _youden(counts: Confusion) -> np.ndarray:
    return sensitivity(counts) + specificity(counts) - 1


RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "corner": lambda labels, probabilities: corner_threshold(labels, probabilities)[0],
    "f1": lambda labels, probabilities: best_threshold(labels, probabilities, f1),
    "youden": lambda labels, probabilities: best_threshold(labels, probabilities, _youden),
    "mcc": lambda labels, probabilities: best_threshold(labels, probabilities, mcc),
}


def choose_threshold(labels: np.ndarray, probabilities: np.ndarray, *, rule: str) -> float:
    """Threshold on probabilities by a rule; NaN when the labels have one class only.

    Args:
        labels: (N,) of 1, 0 and -1; unknown ones are left out.
        probabilities: (N,) in [0, 1].
        rule: corner | f1 | youden | mcc.

    Raises:
        EvaluationError: No such rule.
    """
    if rule not in RULES:
        raise EvaluationError(f"threshold rule {rule!r} is none of {', '.join(RULES)}")
    known = labels >= 0
    if len(np.unique(labels[known])) < 2:
        return float("nan")
    return RULES[rule](labels[known], probabilities[known])


def _counts_above(labels: np.ndarray, probabilities: np.ndarray, cuts: np.ndarray) -> Confusion:
    """Confusion counts of `probability > cut` for rising cuts, each (len(cuts),)."""
    order = np.argsort(probabilities, kind="stable")
    above = np.searchsorted(probabilities[order], cuts, side="right")
    positives = np.concatenate([[0], np.cumsum(labels[order] == 1)]).astype(np.float64)
    negatives = np.concatenate([[0], np.cumsum(labels[order] == 0)]).astype(np.float64)
    fn, tn = positives[above], negatives[above]
    return Confusion(positives[-1] - fn, negatives[-1] - tn, fn, tn)
