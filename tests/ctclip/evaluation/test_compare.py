"""Two models are compared study by study, on the same draws, or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctclip.errors import EvaluationError
from ctclip.evaluation.compare import compare_scores, format_comparison
from ctclip.evaluation.draws import METRICS
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.statistics import delong
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
