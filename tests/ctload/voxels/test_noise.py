"""Counter-based noise: exact integers, one field however it is cut, Gaussian."""

import numpy as np
import pytest

from ctload.pipeline.photometric_reference import normal_field, philox
from ctload.voxels.noise import fill_normals, philox_words


def words_of(counter: int, channel: int, key: int, n: int = 1) -> np.ndarray:
    words = np.empty((4, n), np.uint32)
    philox_words(np.uint64(key), channel, counter, words)
    return words.T


def normals_of(key: int, channel: int, first: int, n: int) -> np.ndarray:
    words, normals = np.empty((4, n // 4), np.uint32), np.empty(n, np.float32)
    fill_normals(np.uint64(key), channel, first, words, normals)
    return normals


def test_philox_gives_the_published_words() -> None:
    # The known answer of Random123 (kat_vectors) for philox4x32-10, counter 0, key 0.
    known = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words_of(0, 0, 0)[0].tolist() == known
    assert philox(np.array([0]), 0, 0)[0].tolist() == known


@pytest.mark.parametrize(("counter", "channel", "key"), [(0, 0, 1), (2**32 - 64, 7, 2**64 - 1), (12345, 3, 2**40 + 9)])
def test_both_forms_give_the_same_integers(counter: int, channel: int, key: int) -> None:
    np.testing.assert_array_equal(
        words_of(counter, channel, key, 64), philox(counter + np.arange(64), channel, key), strict=True
    )


@pytest.mark.parametrize("key", [0, 1, 2**63 + 12345, 2**64 - 1])
def test_both_forms_give_the_same_normals(key: int) -> None:
    fast = normals_of(key, 2, 0, 400_000)
    np.testing.assert_allclose(fast, normal_field(key, 2, (400_000,)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(fast, normal_field(key, 2, (400_000,)), rtol=0, atol=2e-6)  # what it holds in fact


def test_extreme_words_stay_finite_and_agree() -> None:
    # The smallest and the largest uniform occur about once in 2**24 values: force them through the log.
    from ctload.voxels.noise import log_positive

    for value in (2.0**-24, 1 - 2.0**-24, 1.0, 0.5**0.5, 0.70710677, 0.70710683):
        x = np.float32(value)
        assert log_positive(x) == pytest.approx(np.log(np.float64(x)), rel=3e-7, abs=1e-12)


def test_a_field_is_the_same_however_it_is_cut() -> None:
    whole = normals_of(5, 0, 0, 4096)
    parts = [normals_of(5, 0, first, 1024) for first in range(0, 4096, 1024)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_values_have_the_moments_of_a_standard_normal() -> None:
    n = 2_000_000
    values = normals_of(99, 0, 0, n).astype(np.float64)
    # Standard errors of the moments of n normal values: 1, 2, 15 and 96 over n, square rooted.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - expected) < 5 * np.sqrt(variance / n), power
    ends = np.quantile(values, [0.001, 0.025, 0.16, 0.5, 0.84, 0.975, 0.999])
    np.testing.assert_allclose(ends, [-3.0902, -1.95996, -0.99446, 0, 0.99446, 1.95996, 3.0902], atol=0.02)


def test_neighbours_channels_and_keys_are_uncorrelated() -> None:
    n = 400_000
    values = normals_of(7, 0, 0, n)
    others = [
        np.roll(values, 1),
        np.roll(values, 2),
        np.roll(values, 4),
        normals_of(7, 1, 0, n),
        normals_of(8, 0, 0, n),
    ]
    for other in others:
        assert abs(np.corrcoef(values, other)[0, 1]) < 5 / np.sqrt(n)
