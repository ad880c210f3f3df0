"""Metrics agree with scikit-learn, with published examples, and with themselves under weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from ctclip.errors import EvaluationError
from ctclip.evaluation.metrics import (
    COUNT_METRICS,
    RANK_METRICS,
    auroc,
    average_precision,
    balanced_accuracy,
    confusion,
    f1,
    f1_balanced,
    f1_weighted,
    mcc,
    sensitivity,
    specificity,
)
from ctclip.evaluation.thresholds import GRID, RULES, choose_threshold, corner_threshold

EXAMPLE_LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
EXAMPLE = np.array([0.9, 0.8, 0.35, 0.6, 0.7, 0.2, 0.1, 0.3])
SECOND = np.array([0.6, 0.5, 0.4, 0.2, 0.55, 0.3, 0.45, 0.1])


def simulated(seed, num=200, levels=None):
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.3).astype(np.int8)
    labels[:2] = (0, 1)
    scores = rng.normal(labels * 0.8)
    return labels, scores if levels is None else np.round(scores * levels) / levels


def test_the_published_example():
    assert auroc(EXAMPLE_LABELS, EXAMPLE) == 0.875
    assert auroc(EXAMPLE_LABELS, SECOND) == 0.625
    assert average_precision(EXAMPLE_LABELS, EXAMPLE) == pytest.approx(0.8875)
    threshold, distance = corner_threshold(EXAMPLE_LABELS, EXAMPLE)
    assert threshold == pytest.approx(0.343434, abs=1e-6)
    assert distance == pytest.approx(0.25)
    counts = confusion(EXAMPLE_LABELS, threshold < EXAMPLE)
    assert f1(counts) == pytest.approx(0.888889, abs=1e-6)
    assert f1_weighted(counts) == pytest.approx(0.873016, abs=1e-6)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("seed", range(5))
def test_agreement_with_scikit_learn(seed, levels):
    labels, scores = simulated(seed, levels=levels)
    predicted = scores > 0.4
    counts = confusion(labels, predicted)
    assert auroc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(sklearn_metrics.average_precision_score(labels, scores))
    assert f1(counts) == pytest.approx(sklearn_metrics.f1_score(labels, predicted))
    assert f1_weighted(counts) == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="weighted"))
    assert balanced_accuracy(counts) == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    assert mcc(counts) == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predicted))
    assert sensitivity(counts) == pytest.approx(sklearn_metrics.recall_score(labels, predicted))
    assert specificity(counts) == pytest.approx(sklearn_metrics.recall_score(labels, predicted, pos_label=0))


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_of_three_is_the_study_three_times(seed):
    labels, scores = simulated(seed, num=60, levels=3)
    weights = np.random.default_rng(seed).integers(0, 4, (5, 60))
    for name, metric in RANK_METRICS.items():
        repeated = [metric(np.repeat(labels, row), np.repeat(scores, row)) for row in weights]
        np.testing.assert_allclose(metric(labels, scores, weights), repeated, err_msg=name)
    for name, metric in COUNT_METRICS.items():
        repeated = [metric(confusion(np.repeat(labels, row), np.repeat(scores, row) > 0)) for row in weights]
        np.testing.assert_allclose(metric(confusion(labels, scores > 0, weights)), repeated, err_msg=name)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_undefined_and_never_a_number(label):
    labels, scores = np.full(5, label), np.arange(5.0)
    assert all(np.isnan(metric(labels, scores)) for metric in RANK_METRICS.values())
    assert all(np.isnan(metric(confusion(labels, scores > 2))) for metric in COUNT_METRICS.values())
    assert np.isnan(choose_threshold(labels, scores / 5, rule="corner"))


def test_finding_nothing_scores_zero_and_calling_all_alike_has_no_correlation():
    counts = confusion(EXAMPLE_LABELS, np.zeros(8, bool))
    assert f1(counts) == 0
    assert mcc(counts) == 0
    assert balanced_accuracy(counts) == 0.5


def test_always_positive_scores_two_thirds_when_balanced():
    labels = np.array([1] + [0] * 9)
    counts = confusion(labels, np.ones(10, bool))
    assert f1(counts) == pytest.approx(2 / 11)
    assert f1_balanced(counts) == pytest.approx(2 / 3)


@given(st.integers(0, 10_000))
def test_ranks_do_not_see_a_rising_transform(seed):
    labels, scores = simulated(seed, num=40, levels=2)
    for metric in RANK_METRICS.values():
        assert metric(labels, np.exp(scores)) == pytest.approx(float(metric(labels, scores)))
    assert auroc(labels, -scores) == pytest.approx(1 - float(auroc(labels, scores)))


def slow_corner(labels, probabilities):
    best = (np.inf, np.nan)
    for threshold in GRID:
        called = probabilities > threshold
        tpr, fpr = called[labels == 1].mean(), called[labels == 0].mean()
        distance = round(float(np.sqrt((1 - tpr) ** 2 + fpr**2)), 12)
        best = (distance, threshold) if distance <= best[0] else best
    return best[1]


@given(st.integers(0, 10_000))
def test_the_corner_rule_takes_the_last_of_equal_thresholds(seed):
    labels, scores = simulated(seed, num=30)
    probabilities = 1 / (1 + np.exp(-scores))
    assert choose_threshold(labels, probabilities, rule="corner") == slow_corner(labels, probabilities)


@pytest.mark.parametrize("rule", ["f1", "mcc", "youden"])
def test_a_searched_threshold_beats_every_other_cut(rule):
    value = {"f1": f1, "mcc": mcc, "youden": balanced_accuracy}[rule]
    labels, scores = simulated(7, num=80, levels=5)
    probabilities = 1 / (1 + np.exp(-scores))
    chosen = value(confusion(labels, probabilities > choose_threshold(labels, probabilities, rule=rule)))
    assert chosen == max(value(confusion(labels, probabilities > cut)) for cut in np.linspace(0, 1, 500))


def test_unknown_labels_do_not_move_a_threshold():
    labels, scores = simulated(3)
    probabilities = 1 / (1 + np.exp(-scores))
    longer = np.concatenate([labels, np.full(50, -1, np.int8)])
    more = np.concatenate([probabilities, np.linspace(0, 1, 50)])
    for rule in RULES:
        assert choose_threshold(longer, more, rule=rule) == choose_threshold(labels, probabilities, rule=rule)
    with pytest.raises(EvaluationError, match="corner, f1, youden, mcc"):
        choose_threshold(labels, probabilities, rule="guess")
