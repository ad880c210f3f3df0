"""Weighted sampling: counts within one of what the weights say, a pure function of the step, wrong weights refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.weighted import WeightedSampler
from tests.ctload.studies import make_studies


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    weights=st.lists(st.floats(0, 20), min_size=4, max_size=60).filter(lambda values: sum(v > 0 for v in values) >= 3),
    batch_size=st.integers(1, 3),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
)
def test_a_study_comes_as_often_as_its_weight_says(weights: list, batch_size: int, seed: int, epoch: int) -> None:
    values = np.array(weights)
    bound = WeightedSampler("w", batch_size, seed).bind(make_studies(len(values), columns={"w": weights}))
    assert bound.num_batches == (values > 0).sum() // batch_size
    drawn = np.concatenate([bound.draw(epoch, step).rows for step in range(bound.num_batches)])
    expected = len(drawn) * values / values.sum()
    counts = np.bincount(drawn, minlength=len(values))
    assert (counts >= np.floor(expected - 1e-6)).all()
    assert (counts <= np.ceil(expected + 1e-6)).all()
    assert (counts[values == 0] == 0).all()


def test_the_mean_over_epochs_is_the_weight() -> None:
    weights = np.array([1, 2, 3, 0.5, 0.1, 0, 4, 1.4])
    bound = WeightedSampler("w", 2, seed=0).bind(make_studies(8, columns={"w": weights.tolist()}))
    counts = np.zeros(8)
    for epoch in range(600):
        for step in range(bound.num_batches):
            counts += np.bincount(bound.draw(epoch, step).rows, minlength=8)
    np.testing.assert_allclose(counts / counts.sum(), weights / weights.sum(), atol=0.01)


def test_a_draw_depends_on_its_step_alone_and_epochs_differ() -> None:
    studies = make_studies(40, columns={"w": list(range(40))})
    bound, again = (WeightedSampler("w", 4, seed=3).bind(studies) for _ in range(2))
    steps = [(epoch, step) for epoch in range(3) for step in range(bound.num_batches)]
    forwards = {at: bound.draw(*at).rows.tolist() for at in steps}
    assert {at: again.draw(*at).rows.tolist() for at in reversed(steps)} == forwards
    assert forwards[0, 0] != forwards[1, 0]
    assert bound.fingerprint == again.fingerprint
    assert bound.fingerprint != WeightedSampler("w", 4, seed=4).bind(studies).fingerprint


def test_no_study_comes_twice_in_a_batch_where_that_can_be() -> None:
    weights = [10.0] * 4 + [1.0] * 60
    bound = WeightedSampler("w", 8, seed=1).bind(make_studies(64, columns={"w": weights}))
    for epoch in range(5):
        for step in range(bound.num_batches):
            rows = bound.draw(epoch, step).rows
            assert len(set(rows.tolist())) == len(rows)


def test_a_substitute_has_a_weight_and_is_not_in_the_batch() -> None:
    weights = [0.0, 0.0, *([1.0] * 10)]
    bound = WeightedSampler("w", 4, seed=1).bind(make_studies(12, columns={"w": weights}))
    batch = bound.draw(0, 0).rows
    tried = [bound.substitute(int(batch[0]), "", epoch=0, step=0, attempt=number) for number in range(9)]
    assert sorted([*tried, int(batch[0])]) == list(range(2, 12))
    assert not set(tried[:6]) & set(batch.tolist())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0, 2.0], "weight -1.0 in column 'w', as in 1 of 3"),
        ([1.0, None, 2.0], "weight nan"),
        ([1.0, float("inf"), 2.0], "weight inf"),
        (["a", "b", "c"], "weights are numbers"),
        ([0.0, 0.0, 1.0], "larger than the 1 studies"),
    ],
)
def test_wrong_weights_are_refused(weights: list, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        WeightedSampler("w", 2, seed=0).bind(make_studies(3, columns={"w": weights}))


def test_an_unknown_column_is_refused_by_name() -> None:
    with pytest.raises(SamplerError, match="no column 'importance'"):
        WeightedSampler("importance", 2, seed=0).bind(make_studies(3))
