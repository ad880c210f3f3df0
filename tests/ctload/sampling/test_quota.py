"""Counts per batch: exact where whole, bounded over every window where fractional."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import SamplerError
from ctload.sampling.quota import MAX_PERIOD, make_quota

weights_of = st.integers(1, 40)


def counts_of(quota, num_batches: int) -> list[tuple[int, ...]]:
    return [quota.at(number) for number in range(num_batches)]


@given(st.lists(weights_of, min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 2**64 - 1))
def test_whole_quotas_hold_in_every_batch(weights: list[int], times: int, key: int) -> None:
    batch_size = sum(weights) * times
    quota = make_quota({f"{place}": weight for place, weight in enumerate(weights)}, batch_size, key)
    assert counts_of(quota, 20) == [tuple(weight * times for weight in weights)] * 20
    assert quota.period == 1


@settings(deadline=None)
@given(weights_of, weights_of, st.integers(1, 64), st.integers(0, 2**64 - 1))
def test_two_strata_stay_within_one_over_every_window(first: int, second: int, batch_size: int, key: int) -> None:
    quota = make_quota({"a": first, "b": second}, batch_size, key)
    share = Fraction(batch_size * first, first + second)
    num_batches = 2 * quota.period + 3
    counts = counts_of(quota, num_batches)
    assert all(a + b == batch_size and a >= 0 and b >= 0 for a, b in counts)
    total = [quota.before(number)[0] for number in range(num_batches + 1)]
    for start in range(num_batches):
        for stop in range(start + 1, num_batches + 1):
            length, taken = stop - start, total[stop] - total[start]
            assert abs(taken - length * share) < 1
            if length % quota.period == 0:
                assert taken == length * share


@settings(deadline=None, max_examples=60)
@given(st.lists(weights_of, min_size=3, max_size=6), st.integers(1, 40))
def test_many_strata_keep_the_documented_bound(weights: list[int], batch_size: int) -> None:
    quota = make_quota({f"{place}": weight for place, weight in enumerate(weights)}, batch_size, 0)
    shares = [Fraction(batch_size * weight, sum(weights)) for weight in weights]
    num_uneven = sum(share.denominator > 1 for share in shares)
    bound = 1 - Fraction(1, 2 * num_uneven - 2) if num_uneven > 1 else Fraction(0)
    for number in range(2 * quota.period + 2):
        taken = quota.before(number)
        assert sum(taken) == number * batch_size
        deviations = [abs(count - number * share) for count, share in zip(taken, shares, strict=True)]
        assert max(deviations) <= bound if num_uneven > 2 else max(deviations) < 1
        if number % quota.period == 0:
            assert max(deviations) == 0
        counts = quota.at(number)
        assert sum(counts) == batch_size
        assert all(0 <= count <= most for count, most in zip(counts, quota.largest, strict=True))


def test_largest_is_taken_by_some_batch() -> None:
    for weights in ({"a": 1, "b": 3}, {"a": 1, "b": 1, "c": 1}, {"a": 7, "b": 2, "c": 3, "d": 5}):
        for batch_size in (2, 5, 8, 18):
            quota = make_quota(weights, batch_size, 3)
            counts = counts_of(quota, quota.period)
            assert tuple(max(column) for column in zip(*counts, strict=True)) == quota.largest


def test_a_late_batch_is_exact_after_very_many() -> None:
    quota = make_quota({"a": 0.1, "b": 0.2}, 7, 5)  # 7/3 and 14/3; 0.1 is not a tenth in binary
    number = 3 * 10**15
    assert quota.before(number) == (7 * 10**15, 14 * 10**15)
    assert quota.per_batch == (Fraction(7, 3), Fraction(14, 3))


def test_the_key_moves_the_fractional_counts_and_nothing_else() -> None:
    orders = {tuple(counts_of(make_quota({"a": 1, "b": 3}, 18, key), 2)) for key in range(20)}
    assert orders == {((4, 14), (5, 13)), ((5, 13), (4, 14))}


def test_weights_are_relative_and_zero_leaves_a_stratum_out() -> None:
    first = make_quota({"normal": 25, "abnormal": 75, "other": 0}, 8, 0)
    second = make_quota({"abnormal": 3, "normal": 1}, 8, 0)
    assert first == second
    assert first.names == ("abnormal", "normal")
    assert first.at(5) == (6, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "nothing to draw"),
        ({"a": 0, "b": 0}, "nothing to draw"),
        ({"a": -1, "b": 2}, "negative"),
        ({"a": float("nan"), "b": 2}, "no number"),
        ({"a": float("inf"), "b": 2}, "no number"),
        ({"a": "many"}, "no number"),
        ({"a": True, "b": 2}, "no number"),
        ({"a": 0.123457, "b": 0.234561, "c": 0.5}, f"repeat only after .* {MAX_PERIOD // 3}; round the weights"),
    ],
)
def test_impossible_quotas_are_refused(weights: dict, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        make_quota(weights, 8, 0)
