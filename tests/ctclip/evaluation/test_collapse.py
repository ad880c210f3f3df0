"""A collapsed space is called collapsed; a healthy one is described as it is."""

import json

import numpy as np
import pytest
from scipy import stats

from ctclip.errors import EvaluationError
from ctclip.evaluation.collapse import collapse_report, effective_rank

GROUPS = np.repeat(["liver", "spleen", "lung", "heart"], 25)


def clustered(spread, seed=0, size=24):
    rng = np.random.default_rng(seed)
    centres = {name: rng.normal(size=size) for name in np.unique(GROUPS)}
    return np.stack([centres[name] for name in GROUPS]) + spread * rng.normal(size=(100, size))


def test_equal_embeddings_are_collapsed_and_have_no_skewness():
    report = collapse_report(np.ones((100, 8)), GROUPS)
    assert report["is_collapsed"]
    assert not report["is_bell_shaped"]
    assert report["mean"] == pytest.approx(1)
    assert report["skewness"] is None
    assert report["effective_rank"] is None
    assert report["nearest_centroid_accuracy"] == 0
    assert json.dumps(report, allow_nan=False)


def test_a_tight_cone_is_collapsed_though_it_has_a_spread():
    assert collapse_report(clustered(0.3) * 0.05 + 1, GROUPS)["is_collapsed"]


def test_separate_groups_are_told_apart():
    tight, loose = collapse_report(clustered(0.2), GROUPS), collapse_report(clustered(3.0), GROUPS)
    assert not tight["is_collapsed"]
    assert tight["nearest_centroid_accuracy"] == 1
    assert tight["gap"] > 0.7
    assert tight["gap"] > loose["gap"]
    assert tight["cohen_d"] > loose["cohen_d"]
    assert loose["is_bell_shaped"]


def test_the_numbers_are_those_of_numpy_and_scipy():
    vectors = clustered(1.0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    across = [unit[i] @ unit[j] for i in range(100) for j in range(i) if GROUPS[i] != GROUPS[j]]
    within = [unit[i] @ unit[j] for i in range(100) for j in range(i) if GROUPS[i] == GROUPS[j]]
    report = collapse_report(vectors, GROUPS)
    assert report["mean"] == pytest.approx(np.mean(across))
    assert report["sd"] == pytest.approx(np.std(across))
    assert report["skewness"] == pytest.approx(stats.skew(across))
    assert report["kurtosis"] == pytest.approx(stats.kurtosis(across))
    assert report["jarque_bera"] == pytest.approx(stats.jarque_bera(across).statistic)
    assert report["gap"] == pytest.approx(np.mean(within) - np.mean(across))
    assert sum(report["histogram"]) == len(across)
    distances = [np.exp(-2 * np.sum((unit[i] - unit[j]) ** 2)) for i in range(100) for j in range(i)]
    assert report["uniformity"] == pytest.approx(np.log(np.mean(distances)))


def test_the_effective_rank_counts_equal_directions():
    for rank in (1, 3, 7):
        signs = np.concatenate([np.eye(8)[:rank], -np.eye(8)[:rank]])
        assert effective_rank(signs) == pytest.approx(rank)


def test_one_group_or_bad_embeddings_are_refused():
    with pytest.raises(EvaluationError, match="two at least"):
        collapse_report(np.ones((3, 2)), ["a"] * 3)
    with pytest.raises(EvaluationError, match="NaN"):
        collapse_report(np.full((3, 2), np.nan), ["a", "b", "a"])


def test_groups_of_one_have_no_gap():
    report = collapse_report(np.eye(3), ["a", "b", "c"])
    assert report["gap"] is None
    assert report["cohen_d"] is None
    assert report["nearest_centroid_accuracy"] is None
