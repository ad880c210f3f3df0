"""Every metric of every finding, on the studies and under each bootstrap draw of patients.

All findings, and all score tables of the same patients, see the same draws: so means over findings and differences
between models are resampled jointly.
"""

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ctclip.evaluation.metrics import COUNT_METRICS, RANK_METRICS, confusion
from ctclip.evaluation.protocol import EvaluateOptions, balanced_subset, find_thresholds
from ctclip.evaluation.statistics import draw_counts
from ctclip.evaluation.zeroshot import ScoreTable, probabilities

METRICS = (*RANK_METRICS, *COUNT_METRICS, "f1_balanced")


@dataclass(frozen=True)
class Draws:
    """Every metric of every finding under every bootstrap draw, made with the same draws for all.

    Attributes:
        values: metric -> (F,) on the studies themselves.
        draws: metric -> (R, F).
        thresholds: (F,) on probabilities.
        in_balanced: (N, F) bool: the seeded balanced subset of each finding.
    """

    values: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]
    thresholds: np.ndarray
    in_balanced: np.ndarray


def draw_metrics(table: ScoreTable, *, options: EvaluateOptions, validation: ScoreTable | None = None) -> Draws:
    """All metrics of all findings, on the studies and under each bootstrap draw of patients.

    Findings share the draws, so means over findings, and two tables of the same studies, can be compared draw by draw.

    Raises:
        EvaluationError: As `report_scores`.
    """
    chances = probabilities(table.scores, logit_scale=options.logit_scale)
    thresholds = find_thresholds(table, options, validation)
    num = len(table.findings)
    subsets = [
        balanced_subset(labels, seed=options.seed, finding=name)
        for labels, name in zip(table.labels.T, table.findings, strict=True)
    ]
    in_balanced = np.stack(subsets, axis=1)
    blocks = draw_counts(table.patients, num_draws=options.num_bootstraps, seed=options.seed)
    values: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for weights in chain([np.ones((1, len(table)), np.float32)], blocks):
        columns = [
            _finding_metrics(table, chances[:, column], thresholds[column], in_balanced[:, column], weights, column)
            for column in range(num)
        ]
        for name in METRICS:
            values[name].append(np.stack([column[name] for column in columns], axis=1))
    stacked = {name: np.concatenate(rows) for name, rows in values.items()}  # (1 + R, F)
    return Draws(
        {name: rows[0] for name, rows in stacked.items()},
        {name: rows[1:] for name, rows in stacked.items()},
        thresholds,
        in_balanced,
    )


def draw_auroc(table: ScoreTable, *, options: EvaluateOptions) -> tuple[np.ndarray, np.ndarray]:
    """AUROC alone, where no threshold is needed: (F,) on the studies, (R, F) under the draws of all other metrics."""
    blocks = draw_counts(table.patients, num_draws=options.num_bootstraps, seed=options.seed)
    rows = []
    for weights in chain([np.ones((1, len(table)), np.float32)], blocks):
        columns = []
        for labels, scores in zip(table.labels.T, table.scores.T, strict=True):
            known = labels >= 0
            columns.append(RANK_METRICS["auroc"](labels[known], scores[known], weights[:, known]))
        rows.append(np.stack(columns, axis=1))
    stacked = np.concatenate(rows)  # (1 + R, F)
    return stacked[0], stacked[1:]


def mean_over_findings(draws: np.ndarray) -> np.ndarray:
    """(R, F) -> (R,): mean of the defined findings in each draw; NaN where fewer than half are defined."""
    if draws.shape[1] == 0:
        return np.full(len(draws), np.nan)
    defined = ~np.isnan(draws)
    total, num = np.where(defined, draws, 0).sum(1), defined.sum(1)
    return np.where(2 * num >= draws.shape[1], total / np.maximum(num, 1), np.nan)


def _finding_metrics(
    table: ScoreTable, chances: np.ndarray, threshold: float, balanced: np.ndarray, weights: np.ndarray, column: int
) -> dict[str, np.ndarray]:
    """metric -> (R,) of one finding, on its known studies."""
    known = table.labels[:, column] >= 0
    labels, scores, weights = table.labels[known, column], table.scores[known, column], weights[:, known]
    rank = {name: metric(labels, scores, weights) for name, metric in RANK_METRICS.items()}
    if math.isnan(threshold):
        return rank | dict.fromkeys((*COUNT_METRICS, "f1_balanced"), np.full(len(weights), np.nan))
    predicted = chances[known] > threshold
    counts = confusion(labels, predicted, weights)
    subset = confusion(labels, predicted, weights * balanced[known])
    return (
        rank
        | {name: metric(counts) for name, metric in COUNT_METRICS.items()}
        | {"f1_balanced": COUNT_METRICS["f1"](subset)}
    )
