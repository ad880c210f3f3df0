"""Intervals cover what they claim to cover; tests have the published values and the right level."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ctclip.evaluation.metrics import auroc
from ctclip.evaluation.statistics import (
    delong,
    draw_counts,
    holm,
    over_seeds,
    paired_difference,
    percentile_interval,
    permutation_test,
    seed_test,
    two_sided,
)

LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
A = np.array([0.9, 0.8, 0.35, 0.6, 0.7, 0.2, 0.1, 0.3])
B = np.array([0.6, 0.5, 0.4, 0.2, 0.55, 0.3, 0.45, 0.1])


def draws_of(labels, scores, patients, *, num_draws=200, seed=0):
    blocks = draw_counts(patients, num_draws=num_draws, seed=seed)
    return np.concatenate([auroc(labels, scores, counts) for counts in blocks])


def test_draws_keep_a_patients_studies_together_and_sum_to_the_patients():
    patients = ["b", "a", "b", "c"]
    counts = np.concatenate(list(draw_counts(patients, num_draws=250, seed=3)))
    assert counts.shape == (250, 4)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(1), 3)
    assert 0.9 < counts[:, 1].mean() < 1.1


def test_the_same_seed_gives_the_same_draws_and_more_draws_extend_them():
    patients = [str(row) for row in range(20)]
    few, many = (np.concatenate(list(draw_counts(patients, num_draws=n, seed=5))) for n in (100, 230))
    np.testing.assert_array_equal(few, many[:100])
    other = np.concatenate(list(draw_counts(patients, num_draws=100, seed=6)))
    assert (few != other).any()


def test_the_interval_covers_the_truth_at_its_level():
    truth = stats.norm.cdf(1 / math.sqrt(2))  # AUROC of N(1, 1) against N(0, 1)
    rng = np.random.default_rng(0)
    covered = []
    for trial in range(300):
        labels = np.arange(120) % 3 == 0
        scores = rng.normal(labels * 1.0)
        draws = draws_of(labels, scores, [str(row) for row in range(120)], seed=trial)
        interval = percentile_interval(float(auroc(labels, scores)), draws)
        assert interval.high > interval.low
        covered.append(interval.low <= truth <= interval.high)
    assert 0.91 <= np.mean(covered) <= 0.98  # 0.95 +- 2.5 standard errors, less the known small-sample loss


def test_repeated_studies_of_one_patient_do_not_narrow_the_interval():
    labels, scores = np.tile(LABELS, 1), A
    patients = [str(row) for row in range(8)]
    once = draws_of(labels, scores, patients)
    ten_times = draws_of(np.tile(labels, 10), np.tile(scores, 10), patients * 10)
    np.testing.assert_allclose(once, ten_times)


def test_undefined_draws_are_left_out_counted_and_flagged():
    draws = np.array([0.4] * 70 + [0.6] * 5 + [np.nan] * 25)
    interval = percentile_interval(0.5, draws)
    assert interval.num_draws == 75
    assert interval.is_flagged
    assert not percentile_interval(0.5, draws[:80]).is_flagged
    empty = percentile_interval(math.nan, draws)
    assert empty.as_dict() == {"value": None, "low": None, "high": None, "num_draws": 75, "is_flagged": True}


def test_a_paired_difference_of_equal_scores_is_none():
    draws = np.random.default_rng(0).normal(size=500)
    same = paired_difference(0.7, 0.7, draws, draws)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    better = paired_difference(0.9, 0.7, draws + 0.2, draws)
    assert better.low == pytest.approx(0.2)
    assert better.p == pytest.approx(2 / 501)
    assert math.isnan(paired_difference(math.nan, 0.7, draws, draws).p)


def test_paired_differences_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(1)
    labels = rng.random(300) < 0.4
    a = rng.normal(labels * 1.0)
    b = a + rng.normal(size=300) * 0.2
    patients = [str(row) for row in range(300)]
    first, second = draws_of(labels, a, patients), draws_of(labels, b, patients)
    other = draws_of(labels, b, patients, seed=9)
    values = float(auroc(labels, a)), float(auroc(labels, b))
    paired, unpaired = paired_difference(*values, first, second), paired_difference(*values, first, other)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_delong_of_the_published_example():
    result = delong(LABELS, A, B)
    assert (result.auroc_a, result.auroc_b) == (0.875, 0.625)
    assert result.variance == pytest.approx(0.0208333, abs=1e-7)
    assert result.z == pytest.approx(1.7320508, abs=1e-7)
    assert result.p == pytest.approx(0.0832645, abs=1e-7)
    assert delong(LABELS, A, A).p == 1
    assert math.isnan(delong(np.ones(8), A, B).p)


def test_delong_agrees_with_mlstatkit():
    reason = "needs MLstatkit 0.1.91 to compare DeLong's test with"
    mlstatkit = pytest.importorskip("MLstatkit", reason=reason)
    rng = np.random.default_rng(2)
    for _ in range(5):
        labels = (rng.random(80) < 0.4).astype(int)
        a, b = np.round(rng.normal(labels * 1.0), 1), rng.normal(labels * 0.5)
        z, p = mlstatkit.Delong_test(labels, a, b)[:2]
        result = delong(labels, a, b)
        assert abs(result.z) == pytest.approx(abs(z), rel=1e-6)
        assert result.p == pytest.approx(p, rel=1e-6)


def test_delong_has_its_level_when_nothing_differs():
    rng = np.random.default_rng(3)
    labels = np.arange(100) % 2 == 0
    rejected = [delong(labels, rng.normal(labels * 1.0), rng.normal(labels * 1.0)).p < 0.05 for _ in range(600)]
    assert 0.03 < np.mean(rejected) < 0.08


def test_permutation_finds_a_difference_and_none_where_there_is_none():
    rng = np.random.default_rng(4)
    labels = np.arange(200) % 2 == 0
    good, bad = rng.normal(labels * 2.0), rng.normal(labels * 0.2) * 100
    patients = [str(row) for row in range(200)]

    def statistic(ranks):
        return float(auroc(labels, ranks))

    assert permutation_test(good, bad, patients, statistic, num_draws=200) == pytest.approx(1 / 201)
    assert permutation_test(good, good * 7, patients, statistic, num_draws=50) == 1
    assert permutation_test(good, bad, ["one"] * 200, statistic, num_draws=50) == 1  # one patient: nothing to permute


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.01, math.nan, 0.9])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_nor_its_order(p_values):
    corrected = holm(p_values)
    assert all(0 <= new <= 1 and new >= old for new, old in zip(corrected, p_values, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_two_sided_p_is_never_zero_nor_above_one():
    assert two_sided(0, 999) == pytest.approx(0.002)
    assert two_sided(700, 999) == 1


def test_seeds_are_summed_up_and_compared_as_scipy_does():
    a, b = [0.70, 0.72, 0.74], [0.68, 0.71, 0.70]
    runs = over_seeds(a)
    assert (runs.mean, runs.num) == (pytest.approx(0.72), 3)
    assert runs.sd == pytest.approx(0.02)
    assert (runs.low, runs.high) == pytest.approx(stats.t.interval(0.95, 2, loc=0.72, scale=0.02 / math.sqrt(3)))
    assert seed_test(a, b, paired=True) == pytest.approx(stats.ttest_rel(a, b)[1])
    assert seed_test(a, b, paired=False) == pytest.approx(stats.ttest_ind(a, b, equal_var=False)[1])
    assert seed_test(a, a, paired=True) == 1
    assert math.isnan(over_seeds([0.7]).sd)
    assert math.isnan(seed_test([0.7], [0.6], paired=False))
