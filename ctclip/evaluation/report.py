"""Zero-shot scores become a report: metrics with intervals, beside what a trivial classifier would get.

Enters: a ScoreTable (or embeddings and prompts, from which it makes one). Leaves: a dict of plain numbers, strings,
lists and None, ready for JSON. Anything undefined is None there and listed under "undefined" with the reason.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ctclip.cohorts.cohort import Cohort
from ctclip.errors import EvaluationError
from ctclip.evaluation.draws import METRICS, Draws, draw_metrics, mean_over_findings
from ctclip.evaluation.metrics import COUNT_METRICS, RANK_METRICS, confusion
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.statistics import Interval, draw_counts, none_if_nan, percentile_interval
from ctclip.evaluation.zeroshot import EmbedTexts, ScoreTable, probabilities, score_cohort
from ctclip.texts.prompts import PromptSet

FORMAT = 1


def evaluate(
    image_embeddings: np.ndarray,
    studies: Sequence[str],
    *,
    cohort: Cohort,
    prompts: PromptSet,
    embed_texts: EmbedTexts,
    aggregate: str = "similarities",
    options: EvaluateOptions | None = None,
    validation: ScoreTable | None = None,
) -> dict[str, Any]:
    """Report on embeddings of a cohort's studies; arguments as in `score_cohort` and `report_scores`.

    Example:
        >>> report = evaluate(image_NE, ids, cohort=cohort.split("test"), prompts=default_prompts(cohort.findings),
        ...                   embed_texts=embed)  # doctest: +SKIP
        >>> print(format_report(report))  # doctest: +SKIP
    """
    table = score_cohort(
        image_embeddings, studies, cohort=cohort, prompts=prompts, embed_texts=embed_texts, aggregate=aggregate
    )
    return report_scores(table, options=options, validation=validation)


def report_scores(
    table: ScoreTable, *, options: EvaluateOptions | None = None, validation: ScoreTable | None = None
) -> dict[str, Any]:
    """The report of a score table.

    Args:
        table: Scores and labels.
        options: EvaluateOptions() without it.
        validation: Scores of the validation split, from which thresholds come when threshold_from is "val".

    Returns:
        {"format", "stamp", "counts", "findings": {finding: {...}}, "macro", "normal", "undefined", "missing_prompts"}.
        Each metric is {"value", "low", "high", "num_draws", "is_flagged"}; "trivial" holds the scores of calling every
        study positive (rank metrics: of giving every study the same score).

    Raises:
        EvaluationError: threshold_from="val" without validation scores of the same findings, or scores that are NaN.
    """
    options = options or EvaluateOptions()
    if not np.isfinite(table.scores).all():
        raise EvaluationError(f"{int((~np.isfinite(table.scores)).sum())} scores are not finite; embed again")
    drawn = draw_metrics(table, options=options, validation=validation)
    findings, undefined = {}, []
    for column, name in enumerate(table.findings):
        findings[name], problems = _report_finding(table, drawn, column, options)
        undefined.extend({"finding": name, **problem} for problem in problems)
    return {
        "format": FORMAT,
        "stamp": {**table.stamp, **asdict(options)},
        "counts": {"studies": len(table), "patients": len(set(table.patients)), "findings": len(table.findings)},
        "findings": findings,
        "macro": _report_macro(table, drawn, options),
        "normal": _report_normal(table, drawn, options),
        "undefined": undefined,
        "missing_prompts": list(table.missing_prompts),
    }


def _report_finding(
    table: ScoreTable, drawn: Draws, column: int, options: EvaluateOptions
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    labels = table.labels[:, column]
    num_positive, num_negative = int((labels == 1).sum()), int((labels == 0).sum())
    intervals = {
        name: percentile_interval(float(drawn.values[name][column]), drawn.draws[name][:, column], level=options.level)
        for name in METRICS
    }
    report = {
        "num_positive": num_positive,
        "num_negative": num_negative,
        "num_unknown": int((labels == -1).sum()),
        "num_balanced": int(drawn.in_balanced[:, column].sum()),
        "threshold": none_if_nan(float(drawn.thresholds[column])),
        **{name: interval.as_dict() for name, interval in intervals.items()},
        "trivial": trivial_scores(num_positive, num_negative),
    }
    return report, _problems(intervals, num_positive, num_negative, float(drawn.thresholds[column]))


def _problems(
    intervals: dict[str, Interval], num_positive: int, num_negative: int, threshold: float
) -> list[dict[str, str]]:
    if num_positive == 0 or num_negative == 0:
        reason = f"{num_positive} positive and {num_negative} negative studies; both are needed"
        return [{"metric": "all", "reason": reason}]
    problems = []
    if math.isnan(threshold):
        problems.append({"metric": "threshold", "reason": "the studies that set it have one class only"})
    flagged = [name for name, interval in intervals.items() if interval.is_flagged and not math.isnan(interval.value)]
    if flagged:
        problems.append({"metric": ", ".join(flagged), "reason": "undefined in over a fifth of the bootstrap draws"})
    return problems


def trivial_scores(num_positive: int, num_negative: int) -> dict[str, float | None]:
    """What calling every study positive scores; rank metrics: what one equal score for all does."""
    if num_positive == 0 or num_negative == 0:
        return dict.fromkeys(METRICS)
    labels = np.repeat([1, 0], [num_positive, num_negative])
    counts = confusion(labels, np.ones(len(labels), bool))
    scores = {name: float(metric(labels, np.zeros(len(labels)))) for name, metric in RANK_METRICS.items()}
    scores |= {name: float(metric(counts)) for name, metric in COUNT_METRICS.items()}
    return {**scores, "f1_balanced": 2 / 3}


def _report_macro(table: ScoreTable, drawn: Draws, options: EvaluateOptions) -> dict[str, Any]:
    """Plain means over the defined findings; a draw counts when most of them are defined in it."""
    macro: dict[str, Any] = {}
    trivial: dict[str, float | None] = {}
    for name in METRICS:
        defined = ~np.isnan(drawn.values[name])
        value = float(drawn.values[name][defined].mean()) if defined.any() else math.nan
        interval = percentile_interval(value, mean_over_findings(drawn.draws[name][:, defined]), level=options.level)
        macro[name] = {**interval.as_dict(), "num_findings": int(defined.sum())}
        baselines = [
            trivial_scores(int((labels == 1).sum()), int((labels == 0).sum()))[name]
            for labels in table.labels.T[defined]
        ]
        known = [baseline for baseline in baselines if baseline is not None]
        trivial[name] = float(np.mean(known)) if known else None
    return {**macro, "trivial": trivial}


def _report_normal(table: ScoreTable, drawn: Draws, options: EvaluateOptions) -> dict[str, Any]:
    """How well studies without any finding are told apart.

    normal_auc ranks by the prompts of "no finding"; normal_auc_derived by the most likely finding, negated;
    fp_rate_normal is the share of normal studies with any finding above its threshold.
    """
    known = table.is_normal >= 0
    is_normal = table.is_normal[known]
    patients = [patient for patient, take in zip(table.patients, known, strict=True) if take]
    derived = -probabilities(table.scores, logit_scale=options.logit_scale)[known].max(1, initial=0)
    ranked = {"normal_auc": table.normal_scores[known], "normal_auc_derived": derived}
    report: dict[str, Any] = {"num_normal": int((is_normal == 1).sum()), "num_abnormal": int((is_normal == 0).sum())}
    for name, scores in ranked.items():
        report[name] = None
        if len(is_normal) and np.isfinite(scores).all():
            auroc = RANK_METRICS["auroc"]
            blocks = draw_counts(patients, num_draws=options.num_bootstraps, seed=options.seed)
            draws = np.concatenate([auroc(is_normal, scores, weights) for weights in blocks])
            interval = percentile_interval(float(auroc(is_normal, scores)), draws, level=options.level)
            report[name] = interval.as_dict()
    above = probabilities(table.scores, logit_scale=options.logit_scale) > drawn.thresholds
    normals = table.is_normal == 1
    report["fp_rate_normal"] = float(above[normals].any(1).mean()) if normals.any() else None
    return report
