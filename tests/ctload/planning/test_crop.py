"""Crops: inside the volume, centred as Merlin centres, refused where they do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctload.errors import PlanError
from ctload.planning.crop import CenterCrop, RandomCrop, WholeVolume
from tests.ctload.studies import make_studies

sizes = st.tuples(*[st.integers(1, 60)] * 3)


@given(st.lists(sizes, min_size=1, max_size=8), st.data(), st.integers(0, 2**32))
def test_crops_lie_inside_volumes_that_hold_them(shapes: list, data: st.DataObject, seed: int) -> None:
    shape = tuple(data.draw(st.integers(1, min(sizes))) for sizes in zip(*shapes, strict=True))
    studies = make_studies(len(shapes), shapes=shapes)
    for crop in (CenterCrop(shape), RandomCrop(shape)):
        assert crop.check(studies) == shape
        starts = crop.starts(studies.shapes, np.random.default_rng(seed))
        assert starts.dtype == np.int64
        assert starts.shape == (len(shapes), 3)
        assert (starts >= 0).all()
        assert (starts + shape <= studies.shapes).all()


@given(st.lists(sizes, min_size=1, max_size=8), sizes, st.integers(0, 2**32))
def test_padding_is_split_as_merlin_splits_it(shapes: list, shape: tuple, seed: int) -> None:
    for crop in (CenterCrop(shape, pad=True), RandomCrop(shape, pad=True)):
        starts = crop.starts(np.array(shapes), np.random.default_rng(seed))
        missing = np.maximum(np.array(shape) - np.array(shapes), 0)
        before, after = -starts, starts + shape - np.array(shapes)
        assert (before[missing > 0] == missing[missing > 0] // 2).all()
        assert (after[missing > 0] == missing[missing > 0] - missing[missing > 0] // 2).all()
        assert (starts[missing == 0] >= 0).all()


@given(sizes, sizes)
def test_center_crop_starts_where_monai_starts(size: tuple, shape: tuple) -> None:
    """MONAI's CenterSpatialCrop: start = max(n // 2 - roi // 2, 0); symmetric padding comes before it."""
    starts = CenterCrop(shape, pad=True).starts(np.array([size]), np.random.default_rng(0))[0]
    for n, roi, start in zip(size, shape, starts, strict=True):
        padded = max(n, roi)
        assert start == max(padded // 2 - roi // 2, 0) - max(roi - n, 0) // 2


def test_random_crops_reach_every_place_alike() -> None:
    starts = RandomCrop((4, 4, 4)).starts(np.full((9000, 3), (4, 5, 6)), np.random.default_rng(0))
    assert np.bincount(starts[:, 0]).tolist() == [9000]
    for axis, num_places in ((1, 2), (2, 3)):
        counts = np.bincount(starts[:, axis])
        assert len(counts) == num_places
        assert np.abs(counts - 9000 / num_places).max() < 6 * np.sqrt(9000 / num_places)


def test_a_place_does_not_depend_on_the_shapes_of_other_studies() -> None:
    first = RandomCrop((2, 2, 2)).starts(np.array([(9, 9, 9), (2, 2, 2), (9, 9, 9)]), np.random.default_rng(1))
    second = RandomCrop((2, 2, 2)).starts(np.array([(9, 9, 9), (50, 50, 50), (9, 9, 9)]), np.random.default_rng(1))
    assert (first[[0, 2]] == second[[0, 2]]).all()


def test_a_crop_larger_than_a_volume_is_refused_naming_it() -> None:
    studies = make_studies(3, shapes=[(20, 20, 20), (20, 9, 20), (20, 20, 8)])
    for crop in (CenterCrop((10, 10, 10)), RandomCrop((10, 10, 10))):
        with pytest.raises(
            PlanError, match=r"larger than the volume \(20, 9, 20\).* 2 of 3 studies.*pad=True"
        ) as caught:
            crop.check(studies)
        assert caught.value.study == "s000001"
    assert RandomCrop((10, 10, 10), pad=True).check(studies) == (10, 10, 10)


def test_whole_volumes_must_be_of_one_shape() -> None:
    assert WholeVolume().check(make_studies(3, shape=(5, 6, 7))) == (5, 6, 7)
    assert WholeVolume().starts(np.array([[5, 6, 7]] * 2), np.random.default_rng(0)).tolist() == [[0, 0, 0]] * 2
    with pytest.raises(PlanError, match=r"one shape, but this one is \(5, 6, 8\)") as caught:
        WholeVolume().check(make_studies(3, shapes=[(5, 6, 7), (5, 6, 7), (5, 6, 8)]))
    assert caught.value.study == "s000002"


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4), (4, 4, -1), (4, 4, 2.5)])
def test_a_senseless_shape_is_refused(shape: tuple) -> None:
    for make in (CenterCrop, RandomCrop):
        with pytest.raises(PlanError, match="three sizes"):
            make(shape)
