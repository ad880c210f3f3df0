"""The numba resampler against its NumPy twin, and the taps it is given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.voxels.grid import Axis, nearest_of, taps_of
from ctload.voxels.interpolation import interpolate, interpolate_reference

AXES = st.builds(
    Axis,
    num_source=st.integers(1, 9),
    step=st.floats(0.2, 4.0),
    origin=st.floats(-1.5, 3.0),
    num_kept=st.integers(1, 12),
    pad_before=st.just(0),
    pad_after=st.just(0),
)


@settings(max_examples=150, deadline=None)
@given(axes=st.tuples(AXES, AXES, AXES), antialias=st.booleans(), dtype=st.sampled_from([np.int16, np.float32]))
def test_numba_equals_numpy(axes, antialias, dtype):
    source = np.random.default_rng(0).integers(-1024, 3071, [axis.num_source for axis in axes]).astype(dtype)
    taps = [taps_of(axis, antialias=antialias) for axis in axes]
    found = interpolate(source, *taps)
    assert found.shape == tuple(axis.num_kept for axis in axes)
    assert np.abs(found - interpolate_reference(source, *taps)).max() <= 3e-4  # float32 at 3000 HU


@settings(max_examples=150, deadline=None)
@given(axis=AXES, antialias=st.booleans())
def test_taps_lie_in_the_axis_and_weigh_one(axis, antialias):
    taps = taps_of(axis, antialias=antialias)
    assert taps.index.min() >= 0
    assert taps.index.max() < axis.num_source
    assert taps.weight.min() >= 0
    assert np.allclose(taps.weight.sum(axis=1), 1)


@settings(max_examples=150, deadline=None)
@given(axis=AXES)
def test_trilinear_taps_are_numpys_interp_with_border_values(axis):
    line = np.random.default_rng(1).normal(size=axis.num_source)
    taps = taps_of(axis, antialias=False)
    where = axis.origin + axis.step * np.arange(axis.num_kept)
    assert np.allclose((line[taps.index] * taps.weight).sum(axis=1), np.interp(where, range(axis.num_source), line))


@settings(max_examples=100, deadline=None)
@given(axis=AXES)
def test_nearest_voxel_is_the_nearest(axis):
    where = np.clip(axis.origin + axis.step * np.arange(axis.num_kept), 0, axis.num_source - 1)
    assert np.abs(nearest_of(axis) - where).max() <= 0.5 + 1e-6


def test_antialias_averages_what_plain_interpolation_skips():
    line = np.tile([0.0, 1000.0], 20)
    axis = Axis(num_source=40, step=4.0, origin=2.0, num_kept=9, pad_before=0, pad_after=0)
    plain, smooth = (taps_of(axis, antialias=antialias) for antialias in (False, True))
    assert np.ptp((line[plain.index] * plain.weight).sum(axis=1)) == 0
    assert (line[plain.index] * plain.weight).sum(axis=1)[0] == 0
    assert np.allclose((line[smooth.index] * smooth.weight).sum(axis=1)[1:], 500)  # the first reaches the border


def test_antialias_equals_the_antialiased_resize_of_torch():
    torch = pytest.importorskip("torch", reason="needs torch, which resizes with the same triangle filter")
    image = np.random.default_rng(3).normal(0, 300, (30, 44)).astype(np.float32)
    axes = [Axis(size, size / out, 0.5 * size / out - 0.5, out, 0, 0) for size, out in ((1, 1), (30, 12), (44, 15))]
    found = interpolate(image[None], *(taps_of(axis, antialias=True) for axis in axes))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size=(12, 15), mode="bilinear", align_corners=False, antialias=True
    )
    # The border differs by design: torch leaves taps outside out, border padding repeats the edge.
    assert np.abs(found[0, 2:-2, 2:-2] - expected.numpy()[0, 0, 2:-2, 2:-2]).max() < 1e-2
