"""Two models on the same studies: differences of every metric, paired draw by draw.

Enters: two score tables of one split. Leaves: a dict for JSON, as from ctclip.evaluation.report. A positive
difference means that the first is better.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctclip.errors import EvaluationError
from ctclip.evaluation.draws import METRICS, draw_metrics, mean_over_findings
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.robustness import compare_reported
from ctclip.evaluation.statistics import delong, holm, none_if_nan, paired_difference
from ctclip.evaluation.zeroshot import ScoreTable, load_scores


def compare_scores(
    a: ScoreTable,
    b: ScoreTable,
    *,
    options: EvaluateOptions | None = None,
    validation: tuple[ScoreTable, ScoreTable] | None = None,
) -> dict[str, Any]:
    """Paired differences A - B with intervals and p values, per finding and for the means over findings.

    Args:
        a: Scores of one model.
        b: Scores of the other, on the same studies with the same labels; any order.
        options: As for a report; the same draws of patients are used for both.
        validation: Validation scores of (a, b), for threshold_from="val".

    Returns:
        {"stamp", "counts", "findings": {finding: {metric: {"a", "b", "difference", "low", "high", "p", "p_holm"},
        "delong": {...} or None}}, "macro": {metric: {...}}, "left_out"}. p_holm is corrected over the findings.
        "delong" is None where a patient has several studies, which the test does not allow for.

    Raises:
        EvaluationError: Other studies, other labels, or no finding in common.
    """
    options = options or EvaluateOptions()
    a, b, left_out = align(a, b)
    pair = validation or (None, None)
    drawn_a = draw_metrics(a, options=options, validation=pair[0])
    drawn_b = draw_metrics(b, options=options, validation=pair[1])
    findings: dict[str, dict[str, Any]] = {name: {} for name in a.findings}
    macro: dict[str, Any] = {}
    for metric in METRICS:
        values = drawn_a.values[metric], drawn_b.values[metric]  # (F,) each
        draws = drawn_a.draws[metric], drawn_b.draws[metric]  # (R, F) each
        differences = [
            _difference(values[0][k], values[1][k], draws[0][:, k], draws[1][:, k], options.level)
            for k in range(len(a.findings))
        ]
        p_values = [np.nan if entry["p"] is None else entry["p"] for entry in differences]
        for name, entry, corrected in zip(a.findings, differences, holm(p_values), strict=True):
            findings[name][metric] = {**entry, "p_holm": none_if_nan(corrected)}
        macro[metric] = _macro(values, draws, options.level)
    for name, result in _delong_by_finding(a, b).items():
        findings[name]["delong"] = result
    return {
        "stamp": {"a": a.stamp, "b": b.stamp, **asdict(options)},
        "counts": {"studies": len(a), "patients": len(set(a.patients)), "findings": len(a.findings)},
        "findings": findings,
        "macro": macro,
        "left_out": left_out,
    }


def compare_runs(path_a: Path, path_b: Path, *, options: EvaluateOptions | None = None) -> dict[str, Any]:
    """`compare_scores` of two runs' scores_<part>.json, whose .npz lie beside them, with the difference of their
    spreads over templates under "robustness": {"a", "b", "difference", "low", "high", "p"}, or the "reason" that it
    has none.

    Raises:
        EvaluationError: No score tables there; as `compare_scores`.
    """
    options = options or EvaluateOptions()
    tables = [load_scores(path.with_suffix(".npz")) for path in (path_a, path_b)]
    report = compare_scores(*tables, options=options)
    reports = [json.loads(path.read_text(encoding="utf-8")) if path.exists() else {} for path in (path_a, path_b)]
    is_paired = tables[0].studies == tables[1].studies
    reason = {"reason": "the runs were scored in another order of studies; evaluate both on one cohort"}
    report["robustness"] = compare_reported(*reports, level=options.level) if is_paired else reason
    return report


def align(a: ScoreTable, b: ScoreTable) -> tuple[ScoreTable, ScoreTable, list[str]]:
    """Both tables with A's order of studies and the findings they share, and the findings left out.

    Raises:
        EvaluationError: Other studies, patients or labels, or no finding in common.
    """
    only_a, only_b = set(a.studies) - set(b.studies), set(b.studies) - set(a.studies)
    if only_a or only_b:
        first = min(only_a or only_b)
        raise EvaluationError(
            f"the two runs were scored on different studies: {len(only_a)} only in the first, {len(only_b)} only in "
            "the second; score both on one split",
            study=first,
        )
    shared = tuple(name for name in a.findings if name in b.findings)
    if not shared:
        raise EvaluationError(f"no finding in common: {list(a.findings)} and {list(b.findings)}")
    left_out = set(a.findings) ^ set(b.findings) | set(a.missing_prompts) | set(b.missing_prompts)
    row_of = {study: row for row, study in enumerate(b.studies)}
    a, b = _select(a, np.arange(len(a)), shared), _select(b, np.array([row_of[study] for study in a.studies]), shared)
    if a.patients != b.patients or not np.array_equal(a.labels, b.labels):
        num = int((a.labels != b.labels).sum())
        raise EvaluationError(
            f"the two runs were scored against different labels ({num} differ) or patients; score both with one table"
        )
    return a, b, sorted(left_out - set(shared))


def format_comparison(report: dict[str, Any], *, metrics: tuple[str, ...] = ("auroc", "f1_balanced")) -> str:
    """The comparison as lines for the terminal: per finding and mean, difference with interval and p."""
    width = max([len("macro mean"), *(len(name) for name in report["findings"])])
    counts = report["counts"]
    lines = [
        f"A - B on {counts['studies']} studies of {counts['patients']} patients, "
        f"{report['stamp']['level']:.0%} intervals from {report['stamp']['num_bootstraps']} paired draws"
    ]
    for metric in metrics:
        lines += ["", f"{metric:<{width}}  {'A':>6} {'B':>6} {'A - B':>24} {'p':>7} {'p Holm':>7}"]
        rows = {name: scores[metric] for name, scores in report["findings"].items()}
        for name, entry in {**rows, "macro mean": report["macro"][metric]}.items():
            lines.append(f"{name:<{width}}  {_entry_text(entry)}")
    if "robustness" in report:
        spread = _spread_text(report["robustness"])
        lines += ["", f"spread of macro AUROC over templates (below 0: A is the more robust): {spread}"]
    if report["left_out"]:
        lines.append(f"left out, not scored by both: {', '.join(report['left_out'])}")
    return "\n".join(lines)


def _difference(a: float, b: float, draws_a: np.ndarray, draws_b: np.ndarray, level: float) -> dict[str, Any]:
    result = paired_difference(float(a), float(b), draws_a, draws_b, level=level).as_dict()
    difference = result.pop("value")
    return {"a": none_if_nan(float(a)), "b": none_if_nan(float(b)), "difference": difference, **result}


def _macro(values: tuple[np.ndarray, np.ndarray], draws: tuple[np.ndarray, np.ndarray], level: float) -> dict[str, Any]:
    """Over the findings defined for both."""
    defined = ~np.isnan(values[0]) & ~np.isnan(values[1])
    means = [float(side[defined].mean()) if defined.any() else float("nan") for side in values]
    over = [mean_over_findings(side[:, defined]) for side in draws]
    return {**_difference(means[0], means[1], over[0], over[1], level), "num_findings": int(defined.sum())}


def _delong_by_finding(a: ScoreTable, b: ScoreTable) -> dict[str, dict[str, Any] | None]:
    if len(set(a.patients)) < len(a):
        return dict.fromkeys(a.findings)
    results = []
    for column in range(len(a.findings)):
        known = a.labels[:, column] >= 0
        results.append(delong(a.labels[known, column], a.scores[known, column], b.scores[known, column]))
    corrected = holm([result.p for result in results])
    return {
        name: {
            "z": none_if_nan(result.z) if np.isfinite(result.z) else None,
            "p": none_if_nan(result.p),
            "p_holm": none_if_nan(p_holm),
        }
        for name, result, p_holm in zip(a.findings, results, corrected, strict=True)
    }


def _select(table: ScoreTable, rows: np.ndarray, findings: tuple[str, ...]) -> ScoreTable:
    columns = [table.findings.index(name) for name in findings]
    return replace(
        table,
        studies=tuple(table.studies[row] for row in rows),
        patients=tuple(table.patients[row] for row in rows),
        findings=findings,
        labels=table.labels[rows][:, columns],
        scores=table.scores[rows][:, columns],
        normal_scores=table.normal_scores[rows],
        is_normal=table.is_normal[rows],
    )


def _spread_text(entry: dict[str, Any]) -> str:
    return entry["reason"] if "reason" in entry else _entry_text(entry).strip()


def _entry_text(entry: dict[str, Any]) -> str:
    if entry["difference"] is None:
        return "undefined: one class only"
    interval = f"{entry['difference']:+.3f} [{entry['low']:+.3f},{entry['high']:+.3f}]"
    corrected = f"{entry['p_holm']:>7.4f}" if entry.get("p_holm") is not None else f"{'':>7}"
    return f"{entry['a']:>6.3f} {entry['b']:>6.3f} {interval:>24} {entry['p']:>7.4f} {corrected}"
