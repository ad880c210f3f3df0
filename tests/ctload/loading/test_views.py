"""Several views of a study: each with its own crop and changes, all of one read, in every pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import LoaderError, PlanError, ResumeMismatchError
from ctload.geometry import Box
from ctload.loading.loader import Loader
from ctload.loading.prefetch import boxes_of
from ctload.pipeline.reference import open_reference
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, Crop, RandomCrop, WholeVolume
from ctload.planning.drawing import describe, draw_plan
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import ShuffleSampler
from ctload.storage.store import Store
from ctload.testing import assert_resumes_identically, synthetic_store
from tests.ctload.plans import spec_of
from tests.ctload.studies import make_studies

CROP = (6, 12, 10)
CHANGES = Augment(flip=(0, 0.5, 0.5), rotate_deg=(15, 0, 0), contrast=(0.8, 1.2), noise_sigma=(0.01, 0.1))
WINDOW = (HuWindow(-1000, 1000),)
PIPELINES = ["reference", "numba", "dali"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    shapes = [(10 + n % 3, 20, 18 + n % 2) for n in range(8)]
    return synthetic_store(tmp_path_factory.mktemp("views") / "eight.zarr", 8, shapes)


def make(store: Store, **options: Any) -> Loader:
    chosen: dict[str, Any] = {
        "sampler": ShuffleSampler(batch_size=4, seed=3),
        "crop": RandomCrop(CROP),
        "augment": CHANGES,
        "num_views": 2,
        "num_threads": 1,
        "poison_slots": True,
    }
    chosen.update(options)
    if chosen.get("pipeline") == "dali":
        pytest.importorskip("nvidia.dali", reason="needs nvidia-dali")
    return Loader(store.studies, **chosen)


def executed_alone(store: Store, view: BatchPlan) -> np.ndarray:
    """One view read and executed by itself."""
    boxes = [
        store.read(store.studies.ids[row], Box(tuple(start.tolist()), tuple((start + view.crop_shape).tolist())))[None]
        for row, start in zip(view.rows, view.box_start, strict=True)
    ]
    return open_reference(spec_of(view)).execute(boxes, view)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("crop", [RandomCrop(CROP), RandomCrop(CROP, view_shift=(1, 2, 3)), CenterCrop(CROP)])
def test_each_view_is_what_its_plan_says_read_by_itself(store: Store, pipeline: str, crop: Crop) -> None:
    with make(store, pipeline=pipeline, crop=crop, num_views=3) as loader:
        for batch in loader:
            assert len(batch.views) == len(batch.plan.views) == 3
            assert batch.volume is batch.views[0].volume
            for view, plan in zip(batch.views, batch.plan.views, strict=True):
                assert view.volume.shape == (4, 1, *CROP)
                np.testing.assert_array_equal(plan.rows, batch.rows)
                np.testing.assert_allclose(view.volume, executed_alone(store, plan), rtol=0, atol=1e-3)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_study_is_read_once_for_all_its_views(store: Store, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    start_read: Callable[..., Any] = Store.start_read
    monkeypatch.setattr(
        Store, "start_read", lambda self, row, *a, **k: (read.append(row), start_read(self, row, *a, **k))[1]
    )
    with make(store, pipeline=pipeline) as loader:
        delivered = [int(row) for batch in loader for row in batch.rows]
    assert sorted(read[: len(delivered)]) == sorted(delivered)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_first_view_does_not_depend_on_how_many_there_are(store: Store, pipeline: str) -> None:
    with make(store, pipeline=pipeline, num_views=1) as loader:
        expected = [batch.volume for batch in loader]
    with make(store, pipeline=pipeline, num_views=3) as loader:
        for right, batch in zip(expected, loader, strict=True):
            np.testing.assert_array_equal(batch.volume, right)


def test_views_differ_in_crop_flip_warp_and_noise() -> None:
    studies = make_studies(64, shape=(32, 48, 48))
    bound = ShuffleSampler(batch_size=64, seed=0).bind(studies)
    plan = draw_plan(bound, studies, RandomCrop((8, 16, 16)), WINDOW, CHANGES, epoch=0, step=0, num_views=3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one, other = plan.views[first], plan.views[second]
        assert one.warp is not None
        assert other.warp is not None
        for name in ("box_start", "flip", "warp", "contrast", "noise_sigma", "noise_key"):
            same = (getattr(one, name) == getattr(other, name)).reshape(64, -1).all(axis=1).mean()
            assert same < 0.4, name
    assert describe(plan, studies).count("view 1") == 64


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.tuples(*[st.integers(4, 40)] * 3), min_size=2, max_size=6),
    crop=st.tuples(*[st.integers(1, 20)] * 3),
    shift=st.none() | st.tuples(*[st.integers(0, 9)] * 3),
    seed=st.integers(0, 2**32),
    num_views=st.integers(1, 4),
)
def test_all_views_lie_in_the_volume_and_in_one_bounded_read(
    shapes: list, crop: tuple, shift: tuple | None, seed: int, num_views: int
) -> None:
    studies = make_studies(len(shapes), shapes=shapes)
    policy = RandomCrop(crop, pad=True, view_shift=shift)
    bound = ShuffleSampler(batch_size=len(shapes), seed=seed).bind(studies)
    plan = draw_plan(bound, studies, policy, WINDOW, epoch=0, step=0, num_views=num_views)
    start, shape = plan.read_boxes()
    assert (shape <= policy.max_read(studies, num_views)).all()
    volumes = studies.shapes[plan.rows]
    fits = volumes >= np.array(crop)
    for view in plan.views:
        assert (view.box_start >= start).all()
        assert (view.box_start + crop <= start + shape).all()
        assert (((view.box_start >= 0) & (view.box_start + crop <= volumes)) | ~fits).all()
        if shift is not None:
            assert (np.abs(view.box_start - plan.box_start) <= shift).all()
    whole = [np.arange(np.prod(size)).reshape(1, *size) for size in shape]
    for view in plan.views:
        for at, box in enumerate(boxes_of(whole, start, view)):
            first = view.box_start[at] - start[at]
            assert box.shape == (1, *crop)
            assert box[0, 0, 0, 0] == np.ravel_multi_index(tuple(first), tuple(shape[at]))


def test_ranks_share_views_as_they_share_batches(store: Store) -> None:
    with make(store) as loader:
        whole = [[view.volume for view in batch.views] for batch in loader]
    ranks = []
    for rank in range(2):
        with make(store, rank=rank, world_size=2) as loader:
            ranks.append([[view.volume for view in batch.views] for batch in loader])
    for step, views in enumerate(whole):
        for number, expected in enumerate(views):
            np.testing.assert_array_equal(np.concatenate([batches[step][number] for batches in ranks]), expected)


def test_the_affine_of_each_view_is_its_own(store: Store) -> None:
    with make(store, augment=None) as loader:
        batch = next(iter(loader))
    for view, plan in zip(batch.views, batch.plan.views, strict=True):
        affines = store.studies.affines[plan.rows]
        moved = np.einsum("bij,bj->bi", affines[:, :3, :3], plan.box_start) + affines[:, :3, 3]
        np.testing.assert_allclose(view.affine[:, :3, 3], moved)
    np.testing.assert_array_equal(batch.affine, batch.views[0].affine)


def test_views_resume_exactly_and_their_number_is_part_of_the_state(store: Store) -> None:
    assert_resumes_identically(lambda: make(store), num_epochs=2)
    with make(store) as two, make(store, num_views=1) as one:
        with pytest.raises(ResumeMismatchError, match="views is not what it was: saved 2 views"):
            one.load_state_dict(two.state_dict())
        with pytest.raises(ResumeMismatchError, match="views is not what it was: saved nothing, now 2 views"):
            two.load_state_dict(one.state_dict())
        one.load_state_dict(two.state_dict(), allow_mismatch=("views",))


def test_a_substitute_has_views_of_its_own(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "damaged.zarr", 6, [(10 + n % 3, 20, 18) for n in range(6)])
    shard = next(iter(sorted((store.path / "volumes").rglob("c/0/0/0"))))
    content = bytearray(shard.read_bytes())
    content[100] ^= 255
    shard.write_bytes(content)
    with make(store, sampler=ShuffleSampler(6, seed=0), on_corrupt="replace") as loader:
        iterator = iter(loader)
        with pytest.warns(UserWarning, match="was replaced by"):
            batch = next(iterator)
        iterator.close()
    assert batch.num_replaced == 1
    for view, plan in zip(batch.views, batch.plan.views, strict=True):
        np.testing.assert_allclose(view.volume, executed_alone(store, plan), rtol=0, atol=1e-3)


def test_whole_volumes_have_one_box_for_all_views(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "even.zarr", 4, (8, 12, 12))
    with make(store, crop=WholeVolume()) as loader:
        batch = next(iter(loader))
    assert batch.plan.read_boxes()[1].tolist() == [[8, 12, 12]] * 4
    assert (batch.views[0].volume != batch.views[1].volume).any()


def test_wrong_views_are_refused(store: Store) -> None:
    with pytest.raises(LoaderError, match="num_views needs at least 1"):
        make(store, num_views=0)
    with pytest.raises(PlanError, match="view_shift as three distances"):
        RandomCrop(CROP, view_shift=(1, 2))  # pyright: ignore[reportArgumentType]
