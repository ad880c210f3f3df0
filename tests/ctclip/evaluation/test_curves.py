"""Curves pass through the points that scikit-learn finds."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_auc_score, roc_curve

from ctclip.evaluation.curves import reliability, roc_points, score_histograms


def simulated(levels=None):
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.4).astype(np.int8)
    scores = rng.normal(labels * 1.0)
    return labels, scores if levels is None else np.round(scores * levels) / levels


@pytest.mark.parametrize("levels", [None, 2])
def test_the_roc_curve_is_that_of_scikit_learn(levels):
    labels, scores = simulated(levels)
    fpr, tpr = roc_points(labels, scores)
    expected = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])
    assert auc(fpr, tpr) == pytest.approx(roc_auc_score(labels, scores))


def test_unknown_studies_are_left_out_and_one_class_has_no_curve():
    labels, scores = simulated()
    longer, more = np.append(labels, np.full(9, -1, np.int8)), np.append(scores, np.linspace(-3, 3, 9))
    np.testing.assert_array_equal(roc_points(labels, scores), roc_points(longer, more))
    assert roc_points(np.ones(4, np.int8), np.arange(4.0))[0].size == 0
    chances = 1 / (1 + np.exp(-scores))
    assert reliability(labels, chances).error == reliability(longer, 1 / (1 + np.exp(-more))).error
    edges, positives, negatives = score_histograms(longer, more)
    assert positives.sum() == (labels == 1).sum()
    assert negatives.sum() == (labels == 0).sum()
    assert len(edges) == len(positives) + 1


def test_reliability_is_that_of_scikit_learn():
    labels, scores = simulated()
    chances = 1 / (1 + np.exp(-scores))
    found = reliability(labels, chances)
    observed, predicted = calibration_curve(labels, chances, n_bins=10)
    np.testing.assert_allclose(found.predicted, predicted)
    np.testing.assert_allclose(found.observed, observed)
    assert found.counts.sum() == 300
    assert found.error == pytest.approx(np.average(np.abs(predicted - observed), weights=found.counts))


def test_perfect_probabilities_have_no_error_and_none_have_no_number():
    rng = np.random.default_rng(1)
    chances = rng.random(200_000)
    labels = (rng.random(200_000) < chances).astype(np.int8)
    assert reliability(labels, chances).error < 0.01
    assert reliability(np.array([1, 0]), np.array([1.0, 0.0])).error == 0
    assert np.isnan(reliability(np.full(3, -1), np.zeros(3)).error)
