"""The evaluation protocol: where thresholds come from, and which studies the balanced score is made on.

Every choice here is stamped into the report. It computes no metric.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ctclip.errors import EvaluationError
from ctclip.evaluation.thresholds import RULES, choose_threshold
from ctclip.evaluation.zeroshot import ScoreTable, probabilities

THRESHOLD_SOURCES = ("argmax", "val", "test")


@dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate.

    Attributes:
        threshold_from: argmax (positive prompts win), val (chosen on the validation scores), or test (chosen on the
            evaluated studies themselves: optimistic, and stamped so).
        threshold_rule: For val and test: corner (CT-CLIP's), f1, youden or mcc.
        logit_scale: Turns a similarity difference into a probability; no rank and no argmax depends on it.
        num_bootstraps: Draws of patients for the intervals.
        seed: Of the draws and of the balanced subsets.
        level: Of the intervals.
    """

    threshold_from: str = "argmax"
    threshold_rule: str = "corner"
    logit_scale: float = 1 / 0.07
    num_bootstraps: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.threshold_from not in THRESHOLD_SOURCES:
            raise EvaluationError(f"threshold_from {self.threshold_from!r} is none of {', '.join(THRESHOLD_SOURCES)}")
        if self.threshold_rule not in RULES:
            raise EvaluationError(f"threshold_rule {self.threshold_rule!r} is none of {', '.join(RULES)}")
        if self.num_bootstraps < 1 or not 0 < self.level < 1 or not self.logit_scale > 0:
            raise EvaluationError(
                f"num_bootstraps={self.num_bootstraps} must be at least 1, level={self.level} between 0 and 1, "
                f"logit_scale={self.logit_scale} above 0"
            )


def balanced_subset(labels: np.ndarray, *, seed: int, finding: str) -> np.ndarray:
    """(N,) bool: min(#positive, #negative) studies of each class, drawn without replacement (Merlin's protocol).

    Args:
        labels: (N,) of 1, 0 and -1; unknown studies are never drawn.
        seed: Of the draw.
        finding: Its name: findings are drawn independently, whichever others are evaluated.
    """
    rng = np.random.default_rng((seed, 2, zlib.crc32(finding.encode())))
    classes = [np.flatnonzero(labels == value) for value in (0, 1)]
    size = min(len(rows) for rows in classes)
    chosen = np.zeros(len(labels), bool)
    for rows in classes:
        chosen[rng.choice(rows, size, replace=False)] = True
    return chosen


def find_thresholds(table: ScoreTable, options: EvaluateOptions, validation: ScoreTable | None = None) -> np.ndarray:
    """(F,) thresholds on probabilities; NaN where the studies that set one have one class only.

    Raises:
        EvaluationError: threshold_from="val" without validation scores of these findings, or with shared patients.
    """
    if options.threshold_from == "argmax":
        return np.full(len(table.findings), 0.5)
    source = table
    if options.threshold_from == "val":
        if validation is None:
            raise EvaluationError(
                "threshold_from='val' needs the scores of the validation split; embed it and pass them, "
                "or choose argmax (needs none) or test (optimistic)"
            )
        absent = [name for name in table.findings if name not in validation.findings]
        if absent:
            raise EvaluationError(
                f"the validation scores lack findings {absent}; score both splits with one prompt set"
            )
        overlap = set(validation.patients) & set(table.patients)
        if overlap:
            raise EvaluationError(
                f"{len(overlap)} patients are in both the validation and the evaluated studies, one is "
                f"{min(overlap)!r}; thresholds would leak"
            )
        columns = [validation.findings.index(name) for name in table.findings]
        source = replace(validation, labels=validation.labels[:, columns], scores=validation.scores[:, columns])
    chances = probabilities(source.scores, logit_scale=options.logit_scale)
    pairs = zip(source.labels.T, chances.T, strict=True)
    return np.array([choose_threshold(labels, chance, rule=options.threshold_rule) for labels, chance in pairs])
