"""Keyed permutations and rounds against their plain-Python twins, and the properties samplers stand on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.sampling import draw, draw_reference

keys = st.integers(0, 2**64 - 1)


def drawn_rounds(start: int, count: int, n: int, window: int, key: int) -> list[int]:
    out = np.empty(count, np.int64)
    draw.draw_rounds(out, np.empty(2 * window - 1, np.int64), start, n, window, np.uint64(key))
    return out.tolist()


@settings(deadline=None)  # the first call compiles
@given(keys, keys)
def test_mix_and_fold_equal_the_twin(key: int, part: int) -> None:
    assert int(draw.mix64(np.uint64(key))) == draw_reference.mix64(key)
    assert int(draw.fold_key(np.uint64(key), np.uint64(part))) == draw_reference.fold_key(key, part)


def test_mix_is_splitmix64() -> None:
    # First outputs of the published generator for seed 1234567 (state advances by the golden constant).
    golden = 0x9E3779B97F4A7C15
    outputs = [draw_reference.mix64((1234567 + step * golden) % 2**64) for step in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 20) | st.integers(1, 700), keys)
def test_permutation_is_a_bijection_equal_to_its_twin(n: int, key: int) -> None:
    out = np.empty(n, np.int64)
    draw.permute_range(out, 0, n, np.uint64(key))
    assert sorted(out.tolist()) == list(range(n))
    assert out.tolist() == draw_reference.permutation(n, key)


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 2**40), keys, st.data())
def test_inverse_undoes_a_permutation_of_any_size(n: int, key: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, n - 1))
    place = draw.permute(index, n, np.uint64(key))
    assert 0 <= place < n
    assert draw.permute_inverse(place, n, np.uint64(key)) == index


def test_small_permutations_are_uniform_over_keys() -> None:
    # Chi-square over all orders of n, 100 keys per order; limits are about the 1 - 1e-6 quantiles.
    for n, num_orders, limit in [(2, 2, 24.0), (3, 6, 36.0), (4, 24, 71.0), (5, 120, 207.0), (6, 720, 910.0)]:
        num_keys = 100 * num_orders
        counts: dict[tuple[int, ...], int] = {}
        out = np.empty(n, np.int64)
        for number in range(num_keys):
            draw.permute_range(out, 0, n, draw.derive_key(17, number))
            order = tuple(out.tolist())
            counts[order] = counts.get(order, 0) + 1
        assert len(counts) == num_orders
        chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
        assert chi_square < limit, (n, chi_square)


def test_places_and_neighbours_of_a_larger_permutation_look_random() -> None:
    n, num_keys = 100, 4000
    place_counts = np.zeros((n, n), np.int64)
    steps = np.zeros(n, np.int64)
    out = np.empty(n, np.int64)
    for number in range(num_keys):
        draw.permute_range(out, 0, n, draw.derive_key(3, number))
        place_counts[np.arange(n), out] += 1
        steps += np.bincount((out[1:] - out[:-1]) % n, minlength=n)
    expected = num_keys / n
    chi_square = ((place_counts - expected) ** 2 / expected).sum()
    # (n-1)^2 = 9801 degrees of freedom, sd 140; six sigma either way.
    assert abs(chi_square - 9801) < 840
    # Neighbours are different, so the difference of two is 1..n-1, each about (n-1)/(n-1) times per permutation.
    assert steps[0] == 0
    assert abs(steps[1:] - num_keys).max() < 6 * np.sqrt(num_keys)


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 60), st.integers(1, 12), keys)
def test_rounds_equal_their_twin(n: int, window: int, key: int) -> None:
    assert drawn_rounds(0, 4 * n + 3, n, window, key) == draw_reference.rounds(4 * n + 3, n, window, key)


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 60), st.integers(1, 12), keys, st.integers(0, 300), st.integers(0, 80))
def test_rounds_are_reached_from_any_place(n: int, window: int, key: int, start: int, count: int) -> None:
    whole = drawn_rounds(0, start + count, n, window, key)
    assert drawn_rounds(start, count, n, window, key) == whole[start:]


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 80), st.integers(1, 12), keys)
def test_every_round_holds_every_member_once(n: int, window: int, key: int) -> None:
    drawn = drawn_rounds(0, 5 * n, n, window, key)
    for number in range(5):
        assert sorted(drawn[number * n : (number + 1) * n]) == list(range(n))


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, 16), st.integers(0, 40), keys)
def test_no_member_twice_in_any_window_of_a_large_enough_stratum(window: int, more: int, key: int) -> None:
    n = 3 * window - 2 + more
    drawn = drawn_rounds(0, 6 * n, n, window, key)
    for start in range(len(drawn) - window + 1):
        assert len(set(drawn[start : start + window])) == window


def test_plain_rounds_do_repeat_across_the_border() -> None:
    """Without the reordering the window property fails, so the test above can."""
    n, window = 10, 4
    plain = []
    for number in range(200):
        plain += draw_reference.permutation(n, draw_reference.fold_key(5, number))
    assert any(len(set(plain[at : at + window])) < window for at in range(len(plain) - window))


@settings(deadline=None)  # the first call compiles
@given(st.integers(-(2**70), 2**70), st.lists(st.integers(0, 5) | st.sampled_from(["a", "b"]), max_size=4))
def test_keys_depend_on_every_part_and_its_place(seed: int, parts: list) -> None:
    key = draw.derive_key(seed, *parts)
    assert key == draw.derive_key(seed, *parts)
    assert key != draw.derive_key(seed, *parts, 0)
    assert key != draw.derive_key(seed + 1, *parts)
    if parts and parts[::-1] != parts:
        assert key != draw.derive_key(seed, *parts[::-1])


def test_derived_keys_are_the_folds_of_their_number() -> None:
    out = np.empty(5, np.uint64)
    draw.derive_keys(out, np.uint64(9))
    assert out.tolist() == [draw_reference.fold_key(9, number) for number in range(5)]
