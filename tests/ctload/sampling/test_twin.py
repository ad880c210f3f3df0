"""The shuffled twin: the arm's draws per unit and span, in batches of random composition."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.bound import BoundStrata
from ctload.sampling.draw import spread_repeats
from ctload.sampling.sampler import ShuffleSampler, StratifiedSampler
from ctload.sampling.twin import ShuffledTwin
from ctload.sampling.units import AlternatingUnits
from tests.ctload.studies import make_studies

UNITS = AlternatingUnits(("liver", "spleen"))


def labelled(num: int, seed: int):
    rng = np.random.default_rng(seed)
    columns = {
        f"abnormal:{unit}": rng.choice([0, 1, -1], num, p=[0.3, 0.5, 0.2]) for unit in ("report", *UNITS.sections)
    }
    return make_studies(num, columns=columns)


def exposure(bound, epochs) -> dict[str, Counter]:
    """How often each study comes, per unit."""
    seen: dict[str, Counter] = {}
    for epoch in epochs:
        for step in range(bound.num_batches):
            draw = bound.draw(epoch, step)
            seen.setdefault(draw.unit, Counter()).update(draw.rows.tolist())
    return seen


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(1, 3), (1, 1), (2, 3)]), st.integers(1, 3), st.integers(0, 3))
def test_twin_has_the_multiset_of_its_arm_per_unit_and_span(
    seed: int, ratio: tuple, span_epochs: int, span: int
) -> None:
    studies = labelled(90, seed)
    arm = StratifiedSampler("abnormal", {"normal": ratio[0], "abnormal": ratio[1]}, 6, seed, UNITS)
    first, twin = arm.bind(studies), ShuffledTwin(arm, span_epochs).bind(studies)
    assert (twin.num_batches, twin.batch_size, twin.seed) == (first.num_batches, first.batch_size, first.seed)
    epochs = range(span * span_epochs, (span + 1) * span_epochs)
    assert exposure(twin, epochs) == exposure(first, epochs)
    for step in range(first.num_batches):
        assert twin.draw(epochs[0], step).unit == first.draw(epochs[0], step).unit


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([{"0": 1, "1": 3}, {"0": 1, "1": 2}, {"0": 3, "1": 2, "2": 2}, {"1": 1}]),
    st.integers(0, 500),
    st.integers(1, 40),
)
def test_many_batches_drawn_at_once_are_those_drawn_one_by_one(seed: int, quotas: dict, first: int, num: int) -> None:
    studies = make_studies(60, columns={"abnormal": np.random.default_rng(seed).permutation(60) % 3})
    bound = StratifiedSampler("abnormal", quotas, 4, seed).bind(studies)
    assert isinstance(bound, BoundStrata)
    strata = bound.units[""]
    expected = [strata.draw(number) for number in range(first, first + num)]
    np.testing.assert_array_equal(strata.draw_many(first, num), expected)


def test_twin_batches_have_a_random_ratio_where_the_arm_is_exact() -> None:
    studies = make_studies(400, columns={"abnormal": [0] * 200 + [1] * 200})
    arm = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 3}, 8, 0)
    twin = ShuffledTwin(arm, span_epochs=4).bind(studies)
    counts = np.array([(twin.draw(epoch, step).rows < 200).sum() for epoch in range(4) for step in range(50)])
    # Hypergeometric: 400 of 1600 places are normal, 8 are taken; mean 2, variance 8 * 3/16 * 1592/1599.
    assert counts.mean() == 2
    assert abs(counts.var() - 1.493) < 6 * 1.493 * np.sqrt(2 / 200)
    assert {0, 1, 2, 3, 4} <= set(counts.tolist())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_twin_draws_are_pure_in_any_order(seed: int) -> None:
    studies = labelled(60, seed)
    sampler = ShuffledTwin(StratifiedSampler("abnormal", {"normal": 1, "abnormal": 2}, 6, seed, UNITS), 2)
    first, second = sampler.bind(studies), sampler.bind(studies)
    places = [(epoch, step) for epoch in range(4) for step in range(first.num_batches)]
    forward = [first.draw(*place).rows for place in places]
    for place in np.random.default_rng(seed).permutation(len(places)):
        rows = second.draw(*places[place]).rows
        np.testing.assert_array_equal(rows, forward[place])
        rows[:] = -1  # what a caller does with its rows changes no later draw
        np.testing.assert_array_equal(second.draw(*places[place]).rows, forward[place])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_no_study_comes_twice_in_a_twin_batch_although_studies_repeat(seed: int) -> None:
    studies = make_studies(120, columns={"abnormal": [0] * 16 + [1] * 104})
    arm = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 8, seed)
    twin = ShuffledTwin(arm, 2).bind(studies)
    draws = [twin.draw(epoch, step).rows for epoch in range(2) for step in range(twin.num_batches)]
    assert max(Counter(np.concatenate(draws).tolist()).values()) >= 7
    assert all(len(set(rows.tolist())) == 8 for rows in draws)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 30), st.integers(0, 1000))
def test_spreading_repeats_keeps_the_multiset_and_counts_what_is_left(
    num: int, batch_size: int, num_rows: int, seed: int
) -> None:
    batches = np.random.default_rng(seed).integers(0, num_rows, (num, batch_size))
    before = Counter(batches.ravel().tolist())
    repeats_before = sum(batch_size - len(set(batch.tolist())) for batch in batches)
    num_left = spread_repeats(batches)
    assert Counter(batches.ravel().tolist()) == before
    repeats = sum(batch_size - len(set(batch.tolist())) for batch in batches)
    assert (repeats == 0) == (num_left == 0)
    assert repeats <= repeats_before


def test_spreading_leaves_batches_without_repeats_alone() -> None:
    batches = np.arange(12).reshape(3, 4) % 6
    kept = batches.copy()
    assert spread_repeats(batches) == 0
    np.testing.assert_array_equal(batches, kept)


def test_twin_of_a_shuffle_with_units_and_its_fingerprint() -> None:
    studies = labelled(60, 0)
    shuffle = ShuffleSampler(6, 0, by="abnormal", units=UNITS)
    stratified = StratifiedSampler("abnormal", {"normal": 1, "abnormal": 1}, 6, 0, UNITS)
    samplers = [shuffle, stratified, ShuffledTwin(shuffle), ShuffledTwin(stratified), ShuffledTwin(stratified, 2)]
    assert len({sampler.bind(studies).fingerprint for sampler in samplers}) == 5
    assert exposure(ShuffledTwin(shuffle).bind(studies), [3]) == exposure(shuffle.bind(studies), [3])
    twin = ShuffledTwin(stratified).bind(studies)
    draw = twin.draw(0, 1)
    values = studies.column(f"abnormal:{draw.unit}")
    substitute = twin.substitute(int(draw.rows[0]), draw.unit, epoch=0, step=1, attempt=0)
    assert substitute not in draw.rows
    assert values[substitute] == values[draw.rows[0]]


def test_senseless_twins_are_refused() -> None:
    with pytest.raises(SamplerError, match="span_epochs must be a whole number >= 1, got 0"):
        ShuffledTwin(ShuffleSampler(4, 0), 0)
    with pytest.raises(SamplerError, match="has no twin; give a StratifiedSampler, or units"):
        ShuffledTwin(ShuffleSampler(4, 0)).bind(make_studies(8))
    twin = ShuffledTwin(StratifiedSampler("abnormal", {"normal": 1}, 2, 0)).bind(
        make_studies(4, columns={"abnormal": [0] * 4})
    )
    with pytest.raises(SamplerError, match=r"step 0\.\.1"):
        twin.draw(0, 2)
