"""Two models are compared study by study, on the same draws, or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctclip.errors import EvaluationError
from ctclip.evaluation.compare import compare_runs, compare_scores, format_comparison
from ctclip.evaluation.draws import METRICS
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.robustness import TEMPLATES, TemplateScores
from ctclip.evaluation.statistics import delong
from ctclip.evaluation.zeroshot import save_scores
from ctclip.pages.comparison_page import write_comparison_page
from tests.ctclip.score_tables import make_labels, make_table

FEW = EvaluateOptions(num_bootstraps=200)
LABELS = make_labels(240)


def pair(better=1.0):
    worse = make_table(240, labels=LABELS, signal=0.3)
    return replace(worse, scores=worse.scores + LABELS * better / 5), worse


def test_a_better_model_shows_in_every_finding_and_the_mean():
    a, b = pair()
    report = compare_scores(a, b, options=FEW)
    for column, name in enumerate(a.findings):
        known = LABELS[:, column] >= 0
        entry = report["findings"][name]["auroc"]
        expected = [roc_auc_score(LABELS[known, column], table.scores[known, column]) for table in (a, b)]
        assert (entry["a"], entry["b"]) == pytest.approx(expected)
        assert entry["difference"] == pytest.approx(expected[0] - expected[1])
        assert 0 < entry["low"] < entry["difference"] < entry["high"]
        assert entry["p"] == pytest.approx(2 / 201)
        assert entry["p_holm"] >= entry["p"]
    assert report["macro"]["auroc"]["low"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_model_against_itself_differs_in_nothing():
    a, _ = pair()
    report = compare_scores(a, a, options=FEW)
    for scores in (*report["findings"].values(), report["macro"]):
        for metric in METRICS:
            assert (scores[metric]["difference"], scores[metric]["low"], scores[metric]["high"]) == (0, 0, 0)
            assert scores[metric]["p"] == 1
    assert report["findings"]["ascites"]["delong"] == {"z": 0.0, "p": 1.0, "p_holm": 1.0}


def test_the_sign_turns_with_the_order_of_the_models():
    a, b = pair(better=0.2)
    forward, backward = compare_scores(a, b, options=FEW), compare_scores(b, a, options=FEW)
    for metric in METRICS:
        one, other = forward["macro"][metric], backward["macro"][metric]
        assert one["difference"] == pytest.approx(-other["difference"])
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
        assert one["p"] == other["p"]


def test_studies_in_another_order_and_further_findings_do_not_matter():
    a, b = pair()
    order = np.random.default_rng(0).permutation(240)
    shuffled = replace(
        b,
        studies=tuple(b.studies[row] for row in order),
        patients=tuple(b.patients[row] for row in order),
        findings=("fracture", "ascites"),
        labels=b.labels[order][:, [1, 0]],
        scores=b.scores[order][:, [1, 0]],
        normal_scores=b.normal_scores[order],
        is_normal=b.is_normal[order],
    )
    straight, other = compare_scores(a, b, options=FEW), compare_scores(a, shuffled, options=FEW)
    for name in ("ascites", "fracture"):
        for metric in ("auroc", "average_precision"):
            assert straight["findings"][name][metric]["difference"] == other["findings"][name][metric]["difference"]
    assert other["left_out"] == ["gallstones"]
    assert "left out, not scored by both: gallstones" in format_comparison(other)


def test_delong_stands_beside_the_bootstrap_unless_patients_repeat():
    a, b = pair(better=0.3)
    report = compare_scores(a, b, options=FEW)
    known = LABELS[:, 0] >= 0
    expected = delong(LABELS[known, 0], a.scores[known, 0], b.scores[known, 0])
    assert report["findings"]["ascites"]["delong"]["p"] == pytest.approx(expected.p)
    patients = tuple(f"p{row // 2}" for row in range(240))
    repeated = compare_scores(replace(a, patients=patients), replace(b, patients=patients), options=FEW)
    assert repeated["findings"]["ascites"]["delong"] is None


def test_an_undefined_finding_is_left_out_of_the_mean():
    labels = LABELS.copy()
    labels[:, 1] = 0
    a, b = (replace(table, labels=labels) for table in pair())
    report = compare_scores(a, b, options=FEW)
    assert report["findings"]["fracture"]["auroc"]["difference"] is None
    assert report["macro"]["auroc"]["num_findings"] == 2
    assert "undefined: one class only" in format_comparison(report)


def test_runs_that_cannot_be_paired_are_refused():
    a, b = pair()
    other = replace(b, studies=("t0", *b.studies[1:]))
    with pytest.raises(EvaluationError, match=r"study s0: .* 1 only in the first, 1 only in the second"):
        compare_scores(a, other, options=FEW)
    with pytest.raises(EvaluationError, match=r"different labels \(720 differ\)"):
        compare_scores(a, replace(b, labels=1 - b.labels * 5), options=FEW)
    with pytest.raises(EvaluationError, match="no finding in common"):
        compare_scores(a, replace(b, findings=("x", "y", "z")), options=FEW)


def test_thresholds_from_validation_are_each_models_own():
    a, b = pair()
    validation = make_table(100, seed=5, prefix="v", signal=1.0)
    options = replace(FEW, threshold_from="val")
    report = compare_scores(
        a, b, options=options, validation=(validation, replace(validation, scores=validation.scores - 1))
    )
    assert report["findings"]["ascites"]["f1"]["a"] != report["findings"]["ascites"]["f1"]["b"]
    with pytest.raises(EvaluationError, match="validation split"):
        compare_scores(a, b, options=options)


def test_the_text_shows_both_values_and_the_corrected_p():
    a, b = pair()
    text = format_comparison(compare_scores(a, b, options=FEW))
    assert "A - B on 240 studies of 240 patients" in text
    assert "macro mean" in text
    assert text.count("ascites") == 2


def write_scored_run(folder, table, *, noise, options=FEW):
    """scores_test.json with robustness results of made-up templates, and its table."""
    rng = np.random.default_rng(5)
    counts = np.stack([np.bincount(rng.integers(240, size=240), minlength=240) for _ in range(options.num_bootstraps)])
    shifts = np.linspace(-noise, noise, len(TEMPLATES) + 1)  # of each template's AUROC
    patients = rng.normal(0.8, 0.05, 240)
    draws = (counts @ patients / 240)[:, None] + shifts * (1 + 0.2 * rng.normal(size=(len(counts), 1)))
    values = np.repeat((patients.mean() + shifts)[:, None], len(table.findings), axis=1)
    robustness = TemplateScores(table.findings, values, draws).report(level=options.level)
    folder.mkdir()
    path = folder / "scores_test.json"
    path.write_text(json.dumps({**report_scores(table, options=options), "robustness": robustness}, allow_nan=False))
    save_scores(table, path.with_suffix(".npz"))
    return path


def test_two_runs_with_robustness_results_are_compared_in_their_spread_over_templates(tmp_path):
    a, b = pair()
    paths = [
        write_scored_run(tmp_path / name, table, noise=noise) for name, table, noise in (("a", a, 0.01), ("b", b, 0.05))
    ]
    report = compare_runs(*paths, options=FEW)
    entry = report["robustness"]
    spreads = [np.linspace(-noise, noise, len(TEMPLATES) + 1)[:-1].std(ddof=1) for noise in (0.01, 0.05)]
    assert (entry["a"], entry["b"]) == pytest.approx(spreads)
    assert entry["difference"] == pytest.approx(spreads[0] - spreads[1])
    assert entry["low"] < entry["difference"] < entry["high"] < 0
    assert entry["p"] == pytest.approx(2 / 201)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {"findings", "macro"} <= set(report)
    assert f"{entry['difference']:+.3f}" in format_comparison(report).split("spread of macro AUROC")[1]
    mirrored = compare_runs(*paths[::-1], options=FEW)["robustness"]
    assert mirrored["difference"] == pytest.approx(-entry["difference"])
    assert (mirrored["low"], mirrored["high"]) == pytest.approx((-entry["high"], -entry["low"]))


def test_spreads_that_cannot_be_paired_are_left_out_with_the_reason(tmp_path):
    a, b = pair()
    first = write_scored_run(tmp_path / "a", a, noise=0.01)
    fewer = write_scored_run(tmp_path / "b", b, noise=0.05, options=replace(FEW, num_bootstraps=50))
    order = np.arange(240)[::-1]
    turned = replace(
        b, studies=b.studies[::-1], patients=b.patients[::-1],
        **{name: getattr(b, name)[order] for name in ("labels", "scores", "normal_scores", "is_normal")},
    )  # fmt: skip
    other = write_scored_run(tmp_path / "c", turned, noise=0.05)
    assert "other findings, templates or draws" in compare_runs(first, fewer, options=FEW)["robustness"]["reason"]
    assert "another order of studies" in compare_runs(first, other, options=FEW)["robustness"]["reason"]
    first.unlink()
    report = compare_runs(first, fewer, options=FEW)
    assert "not both runs have robustness results" in report["robustness"]["reason"]
    assert report["robustness"]["reason"] in format_comparison(report)
    page = write_comparison_page(tmp_path / "page.html", report, names=("a", "b")).read_text()
    assert f"Not compared: {report['robustness']['reason']}" in page
