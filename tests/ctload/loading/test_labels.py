"""Label maps: they go through the crop, flip and warp of their volume by nearest neighbour, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ctload.errors import LoaderError, PlanError, ResumeMismatchError
from ctload.loading.loader import Loader
from ctload.packing.writer import StoreWriter
from ctload.pipeline.numba import open_numba
from ctload.pipeline.reference import open_reference, warp_labels
from ctload.pipeline.spec import Pipeline, PipelineSpec, box_matrices
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, RandomCrop
from ctload.planning.plan import BatchPlan
from ctload.sampling.sampler import ShuffleSampler
from ctload.storage.preset import Preset
from ctload.storage.store import Store, open_store
from ctload.testing import assert_resumes_identically, synthetic_prepared, synthetic_store
from tests.ctload.plans import random_plan, random_warp, spec_of

CROP = (6, 12, 10)
TURNS = Augment(flip=(0.5, 0.5, 0.5), rotate_deg=(20, 5, 5), scale=(0.8, 1.25), translate_voxels=(1, 1, 1))


def open_pipeline_of(name: str, spec: PipelineSpec) -> Pipeline:
    if name != "dali":
        return open_reference(spec) if name == "reference" else open_numba(spec)
    dali = pytest.importorskip("ctload.pipeline.dali", reason="needs nvidia-dali", exc_type=ImportError)
    return dali.open_dali(spec)


FAST = ["dali", "numba"]
PIPELINES = ["reference", *FAST]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("labels") / "six.zarr"
    return synthetic_store(path, 6, (10, 20, 18), labels=("organs", "bones"))


def make(store: Store, **options: Any) -> Loader:
    chosen: dict[str, Any] = {
        "sampler": ShuffleSampler(batch_size=3, seed=3),
        "crop": RandomCrop(CROP),
        "labels": ("organs", "bones"),
        "num_threads": 1,
        "poison_slots": True,
    }
    chosen.update(options)
    if chosen.get("pipeline") == "dali":
        pytest.importorskip("nvidia.dali", reason="needs nvidia-dali")
    return Loader(store.studies, **chosen)


def random_labels(rng: np.random.Generator, batch: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """One channel and two label maps of each study; every voxel's label differs from its neighbours'."""
    return [rng.integers(0, 30000, (3, *shape)).astype(np.int16) for _ in range(batch)]


def near_a_border(plan: BatchPlan, margin: float) -> np.ndarray:
    """(B, D, H, W) bool: voxels whose centre falls so near to a border of two source voxels that rounding decides."""
    centres = np.indices(plan.crop_shape, np.float64).reshape(3, -1) + 0.5
    matrices = box_matrices(plan)
    position = matrices[:, :, :3] @ centres + matrices[:, :, 3:]
    return (np.abs(position - np.rint(position)) < margin).any(axis=1).reshape(-1, *plan.crop_shape)


# ---- the reference against SciPy, the others against the reference


@pytest.mark.parametrize("seed", range(4))
def test_reference_labels_are_scipys_nearest(seed: int) -> None:
    rng, shape = np.random.default_rng(seed), (9, 14, 11)
    labels = rng.integers(1, 200, shape).astype(np.int16)
    warp = random_warp(rng, 1, shape)[0]
    at_centres = warp[:, :3] @ np.full(3, 0.5) + warp[:, 3] - 0.5
    expected = ndimage.affine_transform(labels, warp[:, :3], at_centres, order=0, mode="grid-constant", cval=0)
    np.testing.assert_array_equal(warp_labels(labels, warp, shape), expected)


@pytest.mark.parametrize("pipeline", FAST)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    warp=st.booleans(),
    zoom=st.booleans(),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 24), st.integers(1, 24)),
)
def test_label_maps_agree_with_the_reference(
    pipeline: str, seed: int, batch: int, warp: bool, zoom: bool, shape: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, batch, shape, warp=warp, zoom=zoom)
    spec = replace(spec_of(plan), num_labels=2)
    slot = [random_labels(rng, 1, tuple(box))[0] for box in plan.box_shapes.tolist()]
    expected = open_reference(spec).execute_labels(slot, plan)
    opened = open_pipeline_of(pipeline, spec)
    actual = opened.execute_labels(slot, plan)
    opened.close()
    assert actual.dtype == np.int16
    assert actual.shape == (batch, 2, *shape)
    differs = (actual != expected).any(axis=1)
    assert not (differs & ~near_a_border(plan, 1e-4)).any()
    assert differs.mean() < 1e-2 or differs.sum() <= 2


@pytest.mark.parametrize("pipeline", FAST)
@pytest.mark.parametrize("mutant", ["trilinear", "unflipped", "half voxel", "swapped axes", "other study"])
def test_a_wrong_execution_of_labels_is_noticed(pipeline: str, mutant: str) -> None:
    rng, shape = np.random.default_rng(5), (9, 12, 15)
    plan = random_plan(rng, 2, shape, warp=True)
    plan = replace(plan, flip=np.array([[True, False, False], [False, True, False]]))
    slot = random_labels(rng, 2, shape)
    spec = replace(spec_of(plan), num_labels=2)
    assert plan.warp is not None
    changed, boxes = plan, slot
    if mutant == "unflipped":
        changed = replace(plan, flip=np.zeros((2, 3), bool))
    elif mutant == "half voxel":
        moved = plan.warp.copy()
        moved[:, :, 3] += 0.5
        changed = replace(plan, warp=moved)
    elif mutant == "swapped axes":
        changed = replace(plan, warp=plan.warp[:, ::-1][:, :, [2, 1, 0, 3]])
    elif mutant == "other study":
        boxes = slot[::-1]
    opened = open_pipeline_of(pipeline, spec)
    actual = opened.execute_labels(boxes, changed)
    if mutant == "trilinear":
        as_channel = replace(spec, num_channels=3, num_labels=0)
        wide = replace(plan, window=np.array([[[0, 32767]]] * 2, np.float32), contrast=np.ones(2, np.float32),
                       brightness=np.zeros(2, np.float32), gamma=np.ones(2, np.float32),
                       noise_sigma=np.zeros(2, np.float32))  # fmt: skip
        actual = np.rint(open_reference(as_channel).execute(slot, wide)[:, 1:] * 32767).astype(np.int16)
    expected = open_reference(spec).execute_labels(slot, plan)
    assert ((actual != expected).any(axis=1) & ~near_a_border(plan, 1e-4)).any()


# ---- through the loader


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_labels_come_from_the_voxels_of_the_volume(store: Store, pipeline: str) -> None:
    """Without noise an ellipsoid is told from the rest by its HU: the label map must say the same after all moves."""
    with make(store, pipeline=pipeline, augment=Augment(flip=(0.5, 0.5, 0.5))) as loader:
        for batch in loader:
            assert list(batch.labels) == ["organs", "bones"]
            fat = batch.volume[:, 0] * 2000 - 1000
            of_fat = batch.labels["organs"] == 3
            assert of_fat.any()
            assert (np.abs(fat[of_fat] + 90) <= 26).all()
            for at, row in enumerate(batch.rows):
                box = batch.plan.box_start[at]
                z, y, x = (slice(first, first + size) for first, size in zip(box, CROP, strict=True))
                flipped = np.flip(store.read(store.studies.ids[row], array="labels/bones")[z, y, x],
                                  tuple(np.flatnonzero(batch.plan.flip[at]).tolist()))  # fmt: skip
                np.testing.assert_array_equal(batch.labels["bones"][at], flipped)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_intensity_changes_and_blur_leave_labels_alone(store: Store, pipeline: str) -> None:
    strong = replace(
        TURNS, blur_sigma=(1, 2), brightness=0.5, contrast=(0.5, 2), gamma=(0.5, 2), noise_sigma=(0.2, 0.4)
    )
    with make(store, pipeline=pipeline, augment=TURNS) as loader:
        expected = [batch.labels["organs"].copy() for batch in loader]
    with make(store, pipeline=pipeline, augment=strong) as loader:
        for right, batch in zip(expected, loader, strict=True):
            np.testing.assert_array_equal(batch.labels["organs"], right)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_labels_do_not_change_the_volumes_and_come_for_every_view(store: Store, pipeline: str) -> None:
    with make(store, pipeline=pipeline, augment=TURNS, labels=()) as loader:
        expected = [batch.volume.copy() for batch in loader]
    with make(store, pipeline=pipeline, augment=TURNS, num_views=2) as loader:
        for right, batch in zip(expected, loader, strict=True):
            np.testing.assert_array_equal(batch.volume, right)
            assert batch.labels is batch.views[0].labels
            assert (batch.views[1].labels["organs"] != batch.labels["organs"]).any()
            for view in batch.views:
                inside = view.labels["organs"][view.volume[:, 0] * 2000 - 1000 > 300]
                assert (inside == 4).mean() > 0.5 or inside.size < 5  # bone, but for its interpolated rim


def test_labels_in_torch_and_beyond_the_volume(store: Store) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    with make(store, crop=CenterCrop((14, 24, 22), pad=True), to="torch") as loader:
        batch = next(iter(loader))
    labels = batch.labels["organs"]
    assert labels.dtype == torch.int16
    assert labels.shape == (3, 14, 24, 22)
    assert labels.sum() > 0
    assert (labels[:, :2] == 0).all()
    assert (labels[:, -2:] == 0).all()


def test_labels_resume_and_are_part_of_the_state(store: Store) -> None:
    assert_resumes_identically(lambda: make(store, augment=TURNS), num_epochs=1)
    with make(store, labels=()) as one, make(store) as other, pytest.raises(ResumeMismatchError, match=r"^labels"):
        other.load_state_dict(one.state_dict())


def test_wide_labels_are_read_and_those_beyond_int16_are_refused(tmp_path: Path) -> None:
    prepared = synthetic_prepared((8, 16, 16), 0)
    wide = np.full((8, 16, 16), 32767, np.uint16)
    with StoreWriter(tmp_path / "wide.zarr", Preset.from_name("native")) as writer:
        writer.write("good", replace(prepared, labels={"organs": wide}))
        writer.write("high", replace(prepared, labels={"organs": wide + np.uint16(1)}))
        writer.finish()
    studies = open_store(tmp_path / "wide.zarr").studies
    with Loader(studies.take([0]), sampler=ShuffleSampler(1, seed=0), labels=("organs",)) as loader:
        assert (next(iter(loader)).labels["organs"] == 32767).all()
    with Loader(studies.take([1]), sampler=ShuffleSampler(1, seed=0), labels=("organs",)) as loader:
        with pytest.raises(PlanError, match="values above 32767") as caught:
            next(iter(loader))
        assert caught.value.study == "high"


def test_wrong_names_of_labels_are_refused(store: Store) -> None:
    with pytest.raises(PlanError, match=r"no label map 'liver', only \['organs', 'bones'\], as in 6 of 6"):
        make(store, labels=("liver",))
    with pytest.raises(LoaderError, match="sequence of different names"):
        make(store, labels="organs")
