"""Aimed crops: block tables count what is there, crops hold what they aim at, and nothing is read to draw them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctload.errors import PlanError
from ctload.loading.loader import Loader
from ctload.planning.aimed_crop import ForegroundCrop, LabelCrop
from ctload.planning.crop import Crop, RandomCrop
from ctload.planning.drawing import draw_plan
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.sampler import ShuffleSampler
from ctload.storage.blocks import block_edge, decode_blocks, encode_blocks
from ctload.storage.manifest import Studies
from ctload.storage.manifest_file import decode_manifest, encode_manifest, entries_of, manifest_of
from ctload.storage.store import Store
from ctload.testing import assert_resumes_identically, synthetic_store
from tests.ctload.prepared import make_prepared, write_store
from tests.ctload.studies import make_studies

WINDOW = (HuWindow(-1000, 1000),)


def with_tables(volumes: list[np.ndarray], labels: list[np.ndarray]) -> Studies:
    """Studies of these volumes and label maps "spots", with their block tables."""
    studies = make_studies(len(volumes), shapes=[volume.shape for volume in volumes])
    table = studies.table.drop_columns(["blocks", "labels"])
    texts = [encode_blocks(one, {"spots": other}, above=0) for one, other in zip(volumes, labels, strict=True)]
    table = table.append_column("blocks", [texts]).append_column("labels", [[["spots"]] * len(volumes)])
    return Studies(table)


def plan_of(studies: Studies, crop: Crop, *, seed: int = 0, num_views: int = 1) -> BatchPlan:
    crop.check(studies)
    bound = ShuffleSampler(batch_size=len(studies), seed=seed).bind(studies)
    return draw_plan(bound, studies, crop, WINDOW, epoch=0, step=0, num_views=num_views)


def cropped(array: np.ndarray, start: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(max(first, 0), first + size) for first, size in zip(start, shape, strict=True))]


# ---- tables


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=st.tuples(*[st.integers(1, 70)] * 3), seed=st.integers(0, 2**32), num_values=st.integers(1, 5))
def test_a_block_table_counts_what_each_block_holds(shape: tuple[int, int, int], seed: int, num_values: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.integers(-5, 3, shape).astype(np.int16)
    labels = (rng.integers(0, num_values, shape) * (rng.random(shape) < 0.02)).astype(np.uint8)
    table = decode_blocks(encode_blocks(volume, {"spots": labels}, above=-0.5))
    assert table.edge == block_edge(shape)
    assert sum(counts.sum() for _, counts in table.labels["spots"].values()) == (labels > 0).sum()
    for block in range(int(np.prod(table.grid))):
        corner = table.corner(block)
        held = cropped(volume, corner, table.edge)
        assert table.foreground[block] == -(-int((held >= 0).sum()) * 255 // int(np.prod(table.edge)))
        spots = cropped(labels, corner, table.edge)
        for value in np.unique(labels[labels > 0]).tolist():
            blocks, counts = table.labels["spots"][value]
            assert counts[blocks == block].sum() == (spots == value).sum()


def test_blocks_are_few_and_tables_short() -> None:
    for shape in ((160, 224, 224), (512, 512, 700), (30, 512, 512)):
        edge = block_edge(shape)
        assert all(-(-size // step) <= 16 for size, step in zip(shape, edge, strict=True))
    z, y, x = np.ogrid[-1:1:160j, -1:1:224j, -1:1:224j]
    body = np.where(y**2 / 0.5 + x**2 / 0.8 + 0 * z < 1, 30, -1000).astype(np.int16)
    assert len(encode_blocks(body, {}, above=-500)) < 1000


def test_a_label_map_that_numbers_things_has_no_table() -> None:
    instances = np.arange(20**3, dtype=np.uint16).reshape(20, 20, 20)
    assert decode_blocks(encode_blocks(instances.astype(np.int16), {"cells": instances}, above=0)).labels["cells"] == {}


def test_the_table_is_made_when_a_study_is_packed(tmp_path: Path) -> None:
    prepared = make_prepared(labels=("organs",), scale=0.5, offset=-24)
    store = write_store(tmp_path / "packed.zarr", {"one": prepared})
    table = decode_blocks(store.studies.column("blocks")[0])
    hu = prepared.arrays["0"] * 0.5 - 24
    assert table.foreground.sum() > 0
    first = cropped(hu, table.corner(0), table.edge)
    assert table.foreground[0] == -(-int((first > -500).sum()) * 255 // int(np.prod(table.edge)))
    assert set(table.labels["organs"]) == set(np.unique(prepared.labels["organs"]).tolist()) - {0}


def test_a_manifest_from_before_block_tables_is_read_and_aiming_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "old.zarr", {"one": make_prepared()})
    old = store.studies.table.drop_columns(["blocks"])
    studies = Studies(decode_manifest(encode_manifest(old), tmp_path))
    assert studies.table.column_names == store.studies.table.column_names
    with pytest.raises(PlanError, match="packed without one") as caught:
        ForegroundCrop((8, 8, 8)).check(studies)
    assert caught.value.study == "one"
    (entry,) = entries_of(store.studies.table)
    del entry.row["blocks"]
    assert manifest_of([entry])["blocks"].to_pylist() == [""]


# ---- crops


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.tuples(*[st.integers(20, 70)] * 3), min_size=1, max_size=4),
    crop=st.tuples(*[st.integers(32, 48)] * 3),
    seed=st.integers(0, 2**32),
    num_views=st.integers(1, 3),
)
def test_a_crop_of_two_blocks_holds_what_it_aims_at(shapes: list, crop: tuple, seed: int, num_views: int) -> None:
    rng = np.random.default_rng(seed)
    volumes, labels = [], []
    for shape in shapes:
        volume, spots = np.full(shape, -1, np.int16), np.zeros(shape, np.uint8)
        where = tuple(int(rng.integers(size)) for size in shape)
        volume[where], spots[tuple(int(rng.integers(size)) for size in shape)] = 1, 7
        volumes.append(volume)
        labels.append(spots)
    studies = with_tables(volumes, labels)
    for policy, arrays in (
        (ForegroundCrop(crop, pad=True), [volume > 0 for volume in volumes]),
        (LabelCrop(crop, "spots", pad=True), [spots == 7 for spots in labels]),
    ):
        for view in plan_of(studies, policy, seed=seed, num_views=num_views).views:
            for row, start in zip(view.rows, view.box_start, strict=True):
                size = np.array(shapes[row])
                assert cropped(arrays[row], start, crop).any()
                fits = size >= np.array(crop)
                assert ((start >= 0) & (start + crop <= size))[fits].all()
                assert (start[~fits] == -((np.array(crop) - size)[~fits] // 2)).all()


def test_values_are_drawn_alike_and_only_those_asked_for() -> None:
    """Value 1 fills half the volume and value 2 one voxel: each is aimed at in half of the crops."""
    spots = np.zeros((64, 64, 64), np.uint8)
    spots[:, :, :30] = 1
    spots[40, 40, 60] = 2
    studies = with_tables([spots.astype(np.int16)] * 400, [spots] * 400)
    starts = plan_of(studies, LabelCrop((8, 8, 8), "spots")).box_start
    assert 150 < (starts[:, 2] > 40).sum() < 250
    assert (plan_of(studies, LabelCrop((8, 8, 8), "spots", values=(2,))).box_start[:, 2] > 40).all()
    some = plan_of(studies, LabelCrop((8, 8, 8), "spots", values=(2,), probability=0.3)).box_start
    random = plan_of(studies, RandomCrop((8, 8, 8))).box_start
    aimed_by_chance = (random[:, 2] > 40).mean()
    assert 0.15 < (some[:, 2] > 40).mean() - aimed_by_chance < 0.35


def test_foreground_is_hit_in_proportion_to_where_it_is() -> None:
    volume = np.full((32, 32, 64), -1, np.int16)
    volume[:16, :16, :16] = 1
    volume[:16, :16, 48:56] = 1
    studies = with_tables([volume] * 600, [np.zeros(volume.shape, np.uint8)] * 600)
    starts = plan_of(studies, ForegroundCrop((2, 2, 2))).box_start
    share = (starts[:, 2] >= 47).mean()
    assert abs(share - 1 / 3) < 0.06
    assert (starts[:, :2] <= 16).all()


def test_a_study_without_the_label_is_cropped_at_random() -> None:
    spots = np.zeros((40, 40, 40), np.uint8)
    studies = with_tables([spots.astype(np.int16)] * 300, [spots] * 300)
    starts = plan_of(studies, LabelCrop((8, 8, 8), "spots")).box_start
    assert len(np.unique(starts[:, 0])) > 20
    assert starts.max() == 32


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("aimed") / "six.zarr"
    return synthetic_store(path, 6, [(20 + n, 40, 36) for n in range(6)], labels=("organs",))


def test_plans_are_drawn_without_reading_a_voxel(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "start_read", lambda *_: pytest.fail("read a voxel"))
    for crop in (ForegroundCrop((8, 16, 16)), LabelCrop((8, 16, 16), "organs", values=(4,))):
        with Loader(store.studies, sampler=ShuffleSampler(3, seed=0), crop=crop, num_views=2) as loader:
            assert loader.plan(0, 1).box_start.shape == (3, 3)


@pytest.mark.parametrize("crop", [ForegroundCrop((8, 16, 16), view_shift=(2, 2, 2)), LabelCrop((8, 16, 16), "organs")])
def test_aimed_crops_resume_and_aim_in_the_loader(store: Store, crop: Any) -> None:
    def make() -> Loader:
        return Loader(store.studies, sampler=ShuffleSampler(3, seed=1), crop=crop, labels=("organs",), num_views=2)

    assert_resumes_identically(make, num_epochs=1)
    with make() as loader:
        for batch in loader:
            assert all((volume > 0.25).any() for volume in batch.volume)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ForegroundCrop((8, 8, 8), probability=1.5), r"probability in \[0, 1\]"),
        (lambda: LabelCrop((8, 8, 8), "organs", values=()), "values of a label map"),
        (lambda: LabelCrop((8, 8, 8), "organs", values=(0,)), "values of a label map"),
    ],
)
def test_senseless_aims_are_refused(make: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make()


def test_an_unknown_label_map_and_a_crop_that_does_not_fit_are_refused(store: Store) -> None:
    with pytest.raises(PlanError, match=r"label map 'liver', but these studies have \['organs'\]"):
        LabelCrop((8, 8, 8), "liver").check(store.studies)
    for crop in (ForegroundCrop((22, 8, 8)), LabelCrop((22, 8, 8), "organs")):
        with pytest.raises(PlanError, match="pass pad=True"):
            crop.check(store.studies)
