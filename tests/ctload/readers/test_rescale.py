"""Stored values to the unit: exact, in the smallest type, without a second volume of wider numbers."""

import tracemalloc

import numpy as np
import pytest

from ctload.readers.rescale import rescaled


@pytest.mark.parametrize("stored_type", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scale", [(1, 0), (1, -1024), (-3, 7), (0.5, -1024.25), (1e30, 0)])
@pytest.mark.parametrize("shape", [(3, 700, 900), (1, 5, 4), (2_000_000,)])
def test_every_block_is_rescaled_as_one_expression_would(stored_type, scale, shape):
    stored = np.random.default_rng(0).integers(0, 200, shape).astype(stored_type)
    expected = stored.astype(np.float64) * scale[0] + scale[1]
    np.testing.assert_array_equal(rescaled(stored, *scale), expected.astype(np.float32))


def test_zeros_under_an_absurd_slope_are_zeros():
    assert (rescaled(np.zeros((2, 3, 4), np.int16), 1e30, 0) == 0).all()


@pytest.mark.parametrize(("scale", "result_mib"), [((1, -1024), 32), ((0.5, 0), 64)])
def test_little_memory_is_taken_beside_the_result(scale, result_mib):
    stored = np.full((64, 512, 512), 7, np.uint16)  # 32 MiB
    rescaled(stored[:1], *scale)
    tracemalloc.start()
    rescaled(stored, *scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (result_mib + 32) << 20
