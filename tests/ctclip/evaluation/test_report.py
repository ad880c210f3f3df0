"""A report states every score with its interval and its baseline, and lists what it cannot state."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ctclip.errors import EvaluationError
from ctclip.evaluation.draws import METRICS, draw_metrics, mean_over_findings
from ctclip.evaluation.protocol import EvaluateOptions, balanced_subset
from ctclip.evaluation.report import evaluate, report_scores, trivial_scores
from ctclip.evaluation.score_text import format_report
from ctclip.evaluation.zeroshot import probabilities
from ctclip.texts.prompts import default_prompts
from tests.ctclip.score_tables import embed_words, make_cohort_of, make_labels, make_table

FEW = EvaluateOptions(num_bootstraps=100)


def numbers_in(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers_in(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_values_are_those_of_scikit_learn_on_the_known_studies():
    table = make_table(300)
    report = report_scores(table, options=FEW)
    for column, name in enumerate(table.findings):
        known = table.labels[:, column] >= 0
        labels, scores = table.labels[known, column], table.scores[known, column]
        found = report["findings"][name]
        assert found["auroc"]["value"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
        average_precision = sklearn_metrics.average_precision_score(labels, scores)
        assert found["average_precision"]["value"] == pytest.approx(average_precision)
        assert found["f1"]["value"] == pytest.approx(sklearn_metrics.f1_score(labels, scores > 0))
        weighted = sklearn_metrics.f1_score(labels, scores > 0, average="weighted")
        assert found["f1_weighted"]["value"] == pytest.approx(weighted)
        assert found["num_unknown"] == (~known).sum()
        assert found["num_positive"] + found["num_negative"] == known.sum()
    macro = np.mean([report["findings"][name]["auroc"]["value"] for name in table.findings])
    assert report["macro"]["auroc"]["value"] == pytest.approx(macro)


def test_the_report_is_plain_json_with_intervals_of_positive_width():
    table = make_table(200)
    report = report_scores(table, options=FEW)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for scores in (*report["findings"].values(), report["macro"]):
        for name in METRICS:
            assert scores[name]["low"] < scores[name]["value"] < scores[name]["high"]
            assert scores[name]["num_draws"] == 100
    assert report["undefined"] == []
    assert report["stamp"]["threshold_from"] == "argmax"
    assert report["stamp"]["label_source"] == "truth"
    assert report["stamp"]["seed"] == 0


def test_the_same_seed_gives_the_same_report_and_another_seed_another():
    table = make_table(100)
    assert report_scores(table, options=FEW) == report_scores(table, options=FEW)
    assert report_scores(table, options=FEW) != report_scores(table, options=replace(FEW, seed=1))


def test_unknown_studies_do_not_change_a_score():
    table = make_table(150, labels=make_labels(150, unknown=0))
    more = make_table(30, labels=np.full((30, 3), -1, np.int8), prefix="t")
    joined = replace(
        table,
        studies=table.studies + more.studies,
        patients=table.patients + more.patients,
        labels=np.concatenate([table.labels, more.labels]),
        scores=np.concatenate([table.scores, more.scores]),
        normal_scores=np.concatenate([table.normal_scores, more.normal_scores]),
        is_normal=np.concatenate([table.is_normal, np.full(30, -1, np.int8)]),
    )
    first, second = (report_scores(part, options=FEW) for part in (table, joined))
    for name in table.findings:
        for metric in (*METRICS[:-1], "f1_balanced"):
            assert first["findings"][name][metric]["value"] == second["findings"][name][metric]["value"]


def test_the_balanced_subset_is_balanced_seeded_and_known():
    labels = np.array([1] * 5 + [0] * 40 + [-1] * 20, np.int8)
    chosen = balanced_subset(labels, seed=3, finding="a")
    assert (chosen & (labels == 1)).sum() == (chosen & (labels == 0)).sum() == 5
    assert not (chosen & (labels == -1)).any()
    np.testing.assert_array_equal(chosen, balanced_subset(labels, seed=3, finding="a"))
    assert (chosen != balanced_subset(labels, seed=4, finding="a")).any()
    assert (chosen != balanced_subset(labels, seed=3, finding="b")).any()
    assert not balanced_subset(np.ones(4, np.int8), seed=0, finding="a").any()


def test_balanced_f1_is_that_of_the_subset_and_near_its_expectation():
    table = make_table(4000, signal=1.5)
    report = report_scores(table, options=EvaluateOptions(num_bootstraps=20))
    for column, name in enumerate(table.findings):
        chosen = balanced_subset(table.labels[:, column], seed=0, finding=name)
        subset = sklearn_metrics.f1_score(table.labels[chosen, column], table.scores[chosen, column] > 0)
        found = report["findings"][name]
        assert found["f1_balanced"]["value"] == pytest.approx(subset)
        assert found["f1_balanced"]["value"] == pytest.approx(found["f1_balanced_expected"]["value"], abs=0.02)
        assert found["num_balanced"] == chosen.sum()


def test_the_trivial_baseline_is_what_always_positive_scores():
    assert trivial_scores(10, 30) == {
        "auroc": 0.5,
        "average_precision": 0.25,
        "f1": 0.4,
        "f1_weighted": pytest.approx(0.1),
        "f1_balanced_expected": pytest.approx(2 / 3),
        "f1_balanced": pytest.approx(2 / 3),
        "balanced_accuracy": 0.5,
        "mcc": 0.0,
        "sensitivity": 1.0,
        "specificity": 0.0,
    }
    assert set(trivial_scores(0, 3).values()) == {None}
    table = make_table(100)
    always = replace(table, scores=np.ones_like(table.scores))
    report = report_scores(always, options=FEW)
    for name in METRICS:
        assert report["macro"][name]["value"] == pytest.approx(report["macro"]["trivial"][name])


def test_a_finding_of_one_class_is_none_and_listed():
    labels = make_labels(80, unknown=0)
    labels[:, 1] = 0
    report = report_scores(make_table(80, labels=labels), options=FEW)
    fracture = report["findings"]["fracture"]
    assert all(fracture[name]["value"] is None for name in METRICS)
    assert report["undefined"] == [
        {"finding": "fracture", "metric": "all", "reason": "0 positive and 80 negative studies; both are needed"}
    ]
    assert report["macro"]["auroc"]["num_findings"] == 2
    assert report["macro"]["auroc"]["value"] is not None
    assert json.dumps(report, allow_nan=False)


def test_a_rare_finding_is_flagged():
    labels = make_labels(60, unknown=0)
    labels[:, 2] = 0
    labels[0, 2] = 1
    report = report_scores(make_table(60, labels=labels), options=FEW)
    assert report["findings"]["gallstones"]["auroc"]["is_flagged"]
    assert any(entry["finding"] == "gallstones" and "auroc" in entry["metric"] for entry in report["undefined"])


def test_nothing_defined_at_all_still_gives_a_report():
    report = report_scores(make_table(20, labels=np.zeros((20, 3), np.int8)), options=FEW)
    assert report["macro"]["auroc"]["value"] is None
    assert len(report["undefined"]) == 3
    assert "-" in format_report(report)


def test_thresholds_come_from_where_the_stamp_says():
    table, validation = make_table(200), make_table(200, seed=1, prefix="v")
    by_argmax = report_scores(table, options=FEW)
    by_val = report_scores(table, options=replace(FEW, threshold_from="val"), validation=validation)
    by_test = report_scores(table, options=replace(FEW, threshold_from="test"))
    own = report_scores(validation, options=replace(FEW, threshold_from="test"))
    for name in table.findings:
        assert by_argmax["findings"][name]["threshold"] == 0.5
        assert by_val["findings"][name]["threshold"] == own["findings"][name]["threshold"]
        assert by_val["findings"][name]["auroc"] == by_argmax["findings"][name]["auroc"]
    assert by_test["macro"]["balanced_accuracy"]["value"] >= by_val["macro"]["balanced_accuracy"]["value"]
    assert by_val["stamp"]["threshold_from"] == "val"
    assert "optimistic" in format_report(by_test)
    assert "optimistic" not in format_report(by_val)


def test_a_threshold_that_validation_cannot_set_is_listed():
    labels = make_labels(100, unknown=0)
    labels[:, 0] = 1
    validation = make_table(100, labels=labels, prefix="v")
    report = report_scores(make_table(100), options=replace(FEW, threshold_from="val"), validation=validation)
    assert report["findings"]["ascites"]["f1"]["value"] is None
    assert report["findings"]["ascites"]["auroc"]["value"] is not None
    expected = {"finding": "ascites", "metric": "threshold", "reason": "the studies that set it have one class only"}
    assert expected in report["undefined"]


def test_validation_must_be_given_fit_and_share_no_patient():
    table = make_table(60)
    options = replace(FEW, threshold_from="val")
    with pytest.raises(EvaluationError, match="needs the scores of the validation split"):
        report_scores(table, options=options)
    with pytest.raises(EvaluationError, match=r"lack findings \['gallstones'\]"):
        report_scores(table, options=options, validation=make_table(60, findings=("ascites", "fracture"), prefix="v"))
    with pytest.raises(EvaluationError, match="60 patients are in both"):
        report_scores(table, options=options, validation=make_table(60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold_from": "luck"}, "argmax, val, test"),
        ({"threshold_rule": "luck"}, "corner, f1"),
        ({"num_bootstraps": 0}, "at least 1"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"logit_scale": 0.0}, "above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(EvaluationError, match=message):
        EvaluateOptions(**change)


def test_scores_that_are_not_finite_are_refused():
    table = make_table(10)
    table.scores[3, 1] = np.nan
    with pytest.raises(EvaluationError, match="1 scores are not finite"):
        report_scores(table, options=FEW)


def test_studies_of_one_patient_are_drawn_together():
    labels = np.repeat(make_labels(50, unknown=0), 4, axis=0)
    single = make_table(200, labels=labels)
    repeated = replace(single, patients=tuple(f"p{row // 4}" for row in range(200)))
    scores = np.repeat(single.scores[::4], 4, axis=0)
    options = EvaluateOptions(num_bootstraps=300)
    narrow = report_scores(replace(single, scores=scores), options=options)["macro"]["auroc"]
    wide = report_scores(replace(repeated, scores=scores), options=options)["macro"]["auroc"]
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_findings_share_the_draws_so_that_macro_intervals_are_joint():
    labels = np.repeat(make_labels(150, unknown=0)[:, :1], 3, axis=1)
    table = make_table(150, labels=labels)
    table = replace(table, scores=np.repeat(table.scores[:, :1], 3, axis=1))
    report = report_scores(table, options=FEW)
    for end in ("value", "low", "high"):
        assert report["macro"]["auroc"][end] == pytest.approx(report["findings"]["ascites"]["auroc"][end])


def test_a_draw_counts_in_the_mean_when_half_its_findings_are_defined():
    draws = np.array([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean_over_findings(draws), [2.0, 5.0, np.nan])
    assert np.isnan(mean_over_findings(np.zeros((2, 0)))).all()


def test_normal_studies_are_scored_by_prompt_and_by_findings():
    table = make_table(200, signal=2.0)
    normal = report_scores(table, options=FEW)["normal"]
    assert normal["num_normal"] + normal["num_abnormal"] == 200
    is_normal = table.is_normal == 1
    by_hand = sklearn_metrics.roc_auc_score(is_normal, table.normal_scores)
    assert normal["normal_auc"]["value"] == pytest.approx(by_hand)
    derived = sklearn_metrics.roc_auc_score(is_normal, -table.scores.max(1))
    assert normal["normal_auc_derived"]["value"] == pytest.approx(derived)
    above = (probabilities(table.scores, logit_scale=1.0) > 0.5).any(1)
    assert normal["fp_rate_normal"] == pytest.approx(above[is_normal].mean())


def test_without_normal_prompts_or_normal_studies_nothing_is_made_up():
    table = replace(make_table(50), normal_scores=np.full(50, np.nan), is_normal=np.full(50, -1, np.int8))
    normal = report_scores(table, options=FEW)["normal"]
    assert normal["normal_auc"] is None
    assert normal["fp_rate_normal"] is None


def test_embeddings_go_all_the_way_to_a_table_of_text():
    labels = make_labels(60)
    cohort = make_cohort_of(labels)
    names = cohort.findings
    words = [" ".join(name for name, label in zip(names, row, strict=True) if label == 1) or "x" for row in labels]
    images = embed_words(words) + np.random.default_rng(0).normal(size=(60, 32)) * 0.5
    report = evaluate(
        images, cohort.studies, cohort=cohort, prompts=default_prompts(names), embed_texts=embed_words, options=FEW
    )
    text = format_report(report)
    assert "SYNTHETIC" in text
    assert "labels: truth" in text
    assert "always positive (macro)" in text
    assert "0.667" in text
    for name in names:
        assert any(line.startswith(name) for line in text.splitlines())
    assert all(np.isfinite(numbers_in(report)))


def test_draws_have_one_row_per_bootstrap():
    drawn = draw_metrics(make_table(40), options=EvaluateOptions(num_bootstraps=130))
    assert set(drawn.draws) == set(METRICS)
    assert all(rows.shape == (130, 3) for rows in drawn.draws.values())
