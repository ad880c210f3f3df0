"""Crop and resize, and coarsening: drawn inside the volume, in the asked range, and executed where the affine says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import PlanError
from ctload.loading.loader import Loader
from ctload.packing.writer import StoreWriter
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop
from ctload.planning.drawing import describe, draw_plan
from ctload.planning.resized_crop import RandomResizedCrop
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import ShuffleSampler
from ctload.storage.preset import Preset
from ctload.storage.store import Store, open_store
from ctload.testing import assert_resumes_identically, synthetic_prepared, synthetic_store
from tests.ctload.studies import make_studies

WINDOW = (HuWindow(-1000, 1000),)


def pipelines() -> list[Any]:
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        return ["reference", "numba", pytest.param("dali", marks=pytest.mark.skip("needs nvidia-dali"))]
    return ["reference", "numba", "dali"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.tuples(*[st.integers(1, 60)] * 3), min_size=1, max_size=5),
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    scale=st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 3.0)),
    stretch=st.floats(1.0, 1.5),
    shift=st.none() | st.tuples(*[st.integers(0, 6)] * 3),
    seed=st.integers(0, 2**32),
    num_views=st.integers(1, 3),
)
def test_regions_lie_in_the_volume_and_boxes_hold_them_with_a_margin(
    shapes: list, shape: tuple, scale: tuple, stretch: float, shift: tuple | None, seed: int, num_views: int
) -> None:
    studies = make_studies(len(shapes), shapes=shapes)
    crop = RandomResizedCrop(shape, scale=scale, stretch=stretch, view_shift=shift)
    assert crop.check(studies) == shape
    bound = ShuffleSampler(batch_size=len(shapes), seed=seed).bind(studies)
    plan = draw_plan(bound, studies, crop, WINDOW, epoch=0, step=0, num_views=num_views)
    assert (plan.read_boxes()[1] <= crop.max_read(studies, num_views)).all()
    middles = []
    for view in plan.views:
        assert view.zoom is not None
        volumes = studies.shapes[view.rows]
        size = view.zoom[:, :, 0] * np.array(shape)
        low = view.box_start + view.zoom[:, :, 1]
        assert (low >= -1e-6).all()
        assert (low + size <= volumes + 1e-6).all()
        assert (view.zoom[:, :, 1] >= 1 - 1e-6).all()
        assert (view.zoom[:, :, 1] + size <= view.box_shapes - 1 + 1e-6).all()
        assert (view.box_shapes <= np.ceil(size) + 4).all()
        magnification = np.array(shape) / size
        is_whole = np.isclose(size, volumes)
        assert ((magnification >= scale[0] / stretch - 1e-9) | is_whole).all()
        assert ((magnification <= scale[1] * stretch + 1e-9) | is_whole).all()
        middles.append((low + size / 2, size))
    for middle, size in middles[1:]:
        if shift is not None:
            # A region may have to move farther where it would leave the volume.
            apart = np.abs(middle - middles[0][0])
            at_a_wall = np.isclose(middle, size / 2) | np.isclose(middle, volumes - size / 2)
            assert ((apart <= np.array(shift) + 1e-6) | at_a_wall).all()


def test_magnifications_are_log_uniform() -> None:
    studies = make_studies(4000, shape=(64, 64, 64))
    bound = ShuffleSampler(batch_size=4000, seed=0).bind(studies)
    plan = draw_plan(bound, studies, RandomResizedCrop((16, 16, 16), (0.5, 2.0)), WINDOW, epoch=0, step=0)
    assert plan.zoom is not None
    logs = -np.log2(plan.zoom[:, 0, 0])
    assert (plan.zoom[:, :, 0] == plan.zoom[:, :1, 0]).all()
    assert np.abs(np.histogram(logs, 4, (-1, 1))[0] - 1000).max() < 150
    assert "zoom 0" in describe(plan, studies) or "zoom 1" in describe(plan, studies)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A volume whose HU rise linearly along a direction in RAS+ mm."""
    path, shape, slope = tmp_path_factory.mktemp("ramp") / "ramp.zarr", (28, 40, 36), np.array([3.0, 4.0, 5.0])
    prepared = synthetic_prepared(shape, 0)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    hu = (index @ prepared.affine[:3, :3].T + prepared.affine[:3, 3]) @ slope
    with StoreWriter(path, Preset.from_name("native")) as writer:
        writer.write("ramp", replace(prepared, arrays={"0": np.rint(hu).astype(np.int16)}))
        writer.finish()
    return open_store(path)


@pytest.mark.parametrize("pipeline", pipelines())
@pytest.mark.parametrize(
    "augment", [None, Augment(flip=(1, 0, 1)), Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(15, 5, 5))]
)
def test_the_affine_says_where_a_resized_crop_lies(ramp: Store, pipeline: str, augment: Augment | None) -> None:
    crop, slope = RandomResizedCrop((16, 20, 24), scale=(0.8, 2.0), stretch=1.2), np.array([3.0, 4.0, 5.0])
    sampler = ShuffleSampler(1, seed=2)
    with Loader(ramp.studies, sampler=sampler, crop=crop, augment=augment, pipeline=pipeline, num_views=3) as loader:
        batch = next(iter(loader))
    for view in batch.views:
        is_warped = augment is not None and augment.is_warping
        # A warp turns the box's corners out of it; they are filled.
        sizes = [np.arange(n // 3, 2 * n // 3) if is_warped else np.arange(n) for n in (16, 20, 24)]
        index = np.stack(np.meshgrid(*sizes, indexing="ij"), -1)
        expected = (index @ view.affine[0, :3, :3].T + view.affine[0, :3, 3]) @ slope
        got = view.volume[0, 0][tuple(np.moveaxis(index, -1, 0))] * 2000 - 1000
        inside = _away_from_the_volumes_rim(ramp, view.affine[0], index)
        assert inside.mean() > 0.8
        assert np.ptp(expected) > 50
        np.testing.assert_allclose(got[inside], expected[inside], rtol=0, atol=1.5)  # int16 rounding, twice


def _away_from_the_volumes_rim(store: Store, affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Which voxels lie at least half a stored voxel inside the stored volume."""
    to_stored = np.linalg.inv(store.studies.affines[0]) @ affine
    stored = index @ to_stored[:3, :3].T + to_stored[:3, 3]
    return ((stored >= 0) & (stored <= np.array(store.studies.shapes[0]) - 1)).all(axis=-1)


@pytest.mark.parametrize("pipeline", pipelines())
def test_resized_views_resume_and_carry_labels(tmp_path: Path, pipeline: str) -> None:
    store = synthetic_store(tmp_path / "five.zarr", 5, [(10 + n, 20, 18) for n in range(5)], labels=("organs",))

    def make() -> Loader:
        return Loader(
            store.studies,
            sampler=ShuffleSampler(2, seed=1),
            crop=RandomResizedCrop((8, 16, 16), scale=(0.7, 1.5)),
            augment=Augment(flip=(0, 0, 0.5), coarsen=(3, 1, 1)),
            labels=("organs",),
            num_views=2,
            pipeline=pipeline,
            num_threads=1,
            poison_slots=True,
        )

    assert_resumes_identically(make, num_epochs=1)
    with make() as loader:
        batch = next(iter(loader))
    for view in batch.views:
        assert view.volume.shape == (2, 1, 8, 16, 16)
        assert view.labels["organs"].shape == (2, 8, 16, 16)
        assert view.labels["organs"].any()


# ---- coarsening, drawn


def test_coarse_grids_are_drawn_in_range_and_only_along_the_asked_axes() -> None:
    studies = make_studies(2000, shape=(30, 40, 40))
    bound = ShuffleSampler(batch_size=2000, seed=0).bind(studies)
    augment = Augment(coarsen=(3, 1, 2), coarsen_probability=0.5)
    plan = draw_plan(bound, studies, CenterCrop((30, 40, 40)), WINDOW, augment, epoch=0, step=0)
    coarse = plan.coarse_shape
    assert coarse is not None
    assert coarse[:, 0].min() == 10
    assert (coarse[:, 1] == 40).all()
    assert coarse[:, 2].min() == 20
    assert abs((coarse < (30, 40, 40)).any(axis=1).mean() - 0.5) < 0.05
    assert "coarse " in describe(plan, studies)


def test_coarsening_leaves_all_other_draws_as_they_were() -> None:
    studies = make_studies(8, shape=(30, 40, 40))
    bound = ShuffleSampler(batch_size=8, seed=0).bind(studies)
    base = Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(9, 9, 9), noise_sigma=(0, 1), window_jitter_hu=20)
    crop = CenterCrop((30, 40, 40))
    without = draw_plan(bound, studies, crop, WINDOW, base, epoch=0, step=0)
    with_it = draw_plan(bound, studies, crop, WINDOW, replace(base, coarsen=(2, 2, 2)), epoch=0, step=0)
    np.testing.assert_equal(vars(replace(with_it, coarse_shape=None)), vars(without))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop((8, 8, 8), scale=(0, 1)), "0 < low <= high"),
        (lambda: RandomResizedCrop((8, 8, 8), scale=(2, 1)), "0 < low <= high"),
        (lambda: RandomResizedCrop((8, 8, 8), stretch=0.5), "stretch >= 1"),
        (lambda: RandomResizedCrop((8, 0, 8)), "three sizes"),
        (lambda: Augment(coarsen=(0.5, 1, 1)), "three largest factors >= 1"),
        (lambda: Augment(coarsen_probability=2), r"probabilities in \[0, 1\]"),
    ],
)
def test_senseless_numbers_are_refused(make: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make()
