"""Loader: what it delivers, to whom, in which order, and how it refuses."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctload
from ctload.errors import LoaderError, PlanError, SamplerError
from ctload.geometry import Box
from ctload.loading.loader import Loader
from ctload.packing.writer import StoreWriter
from ctload.pipeline.reference import ReferencePipeline, open_reference
from ctload.pipeline.spec import PipelineSpec
from ctload.planning.augment import Augment
from ctload.planning.crop import CenterCrop, Crop, RandomCrop
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.process.cores import thread_share
from ctload.sampling.sampler import SequentialSampler, ShuffleSampler, StratifiedSampler
from ctload.storage.preset import Preset
from ctload.storage.store import Store, open_store
from ctload.testing import batch_digest, synthetic_prepared, synthetic_store
from tests.ctload.plans import FILL

SHAPE = (10, 24, 22)
CROP = (8, 16, 12)
EVERYTHING = Augment(
    flip=(0.5, 0.5, 0.5), rotate_deg=(15, 5, 5), scale=(0.9, 1.1), translate_voxels=(1, 2, 2), blur_sigma=(0, 1),
    blur_probability=0.5, brightness=0.1, contrast=(0.8, 1.2), gamma=(0.8, 1.2), noise_sigma=(0, 0.1),
    window_jitter_hu=30,
)  # fmt: skip
FLIPS = Augment(flip=(0.5, 0.5, 0.5), contrast=(0.8, 1.2), noise_sigma=(0, 0.1))


def pipelines() -> list[Any]:
    try:
        import nvidia.dali  # noqa: F401
    except ImportError:
        return ["reference", "numba", pytest.param("dali", marks=pytest.mark.skip("needs nvidia-dali"))]
    return ["reference", "numba", "dali"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """12 studies of two channels; every third is normal, the last two are of the val split."""
    columns = {"abnormal": [int(number % 3 > 0) for number in range(12)], "split": ["train"] * 10 + ["val"] * 2}
    path = tmp_path_factory.mktemp("loader") / "twelve.zarr"
    return synthetic_store(path, 12, SHAPE, num_channels=2, columns=columns)


def make(store: Store, **options: Any) -> Loader:
    chosen: dict[str, Any] = {
        "sampler": ShuffleSampler(batch_size=4, seed=3),
        "crop": RandomCrop(CROP),
        "augment": FLIPS,
        "poison_slots": True,
        "num_threads": 1,
    }
    chosen.update(options)
    return Loader(chosen.pop("studies", store.studies), **chosen)


def volumes(loader: Loader) -> list[np.ndarray]:
    with loader:
        return [batch.volume for batch in loader]


def executed(store: Store, plan: BatchPlan, ids: list[str], channels: tuple[str, ...] = ("0",)) -> np.ndarray:
    """A plan read and executed without a loader, ring or thread."""
    slot = np.empty((plan.batch_size, len(channels), *plan.crop_shape), np.int16)
    for at, row in enumerate(plan.rows):
        start = plan.box_start[at]
        box = Box(tuple(start.tolist()), tuple((start + plan.crop_shape).tolist()))
        for channel, array in enumerate(channels):
            slot[at, channel] = store.read(ids[row], box, array=array)
    spec = PipelineSpec(plan.batch_size, len(channels), plan.window.shape[1], FILL, True, True, True)
    return open_reference(spec).execute(list(slot), plan)


# ---- what is delivered


@pytest.mark.parametrize("pipeline", pipelines())
def test_a_batch_is_what_its_plan_says(store: Store, pipeline: str) -> None:
    studies = store.where(split="train").take([7, 2, 9, 0, 1, 5])  # rows that are not the store's
    loader = make(store, studies=studies, pipeline=pipeline, sampler=ShuffleSampler(batch_size=3, seed=1))
    with loader:
        batches = list(loader)
    assert len(batches) == loader.num_batches == len(loader) == 2
    assert sorted(study for batch in batches for study in batch.study) == sorted(studies.ids)
    for batch in batches:
        assert batch.study == tuple(studies.ids[row] for row in batch.rows)
        assert batch.volume.dtype == np.float32
        expected = executed(store, batch.plan, studies.ids)
        np.testing.assert_allclose(batch.volume, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pipeline", pipelines())
def test_two_channels_and_two_windows_give_four_channels_channel_major(store: Store, pipeline: str) -> None:
    windows = (HuWindow(-1000, 1000), HuWindow(-160, 240))
    with make(store, pipeline=pipeline, channels=("0", "1"), window=windows) as loader:
        batch = next(iter(loader))
    assert batch.volume.shape == (4, 4, *CROP)
    expected = executed(store, batch.plan, store.studies.ids, ("0", "1"))
    np.testing.assert_allclose(batch.volume, expected, rtol=0, atol=1e-6)
    assert len({volume.tobytes() for volume in batch.volume[0]}) == 4


@pytest.mark.parametrize("pipeline", pipelines())
@pytest.mark.parametrize("crop", [CenterCrop((14, 20, 30), pad=True), RandomCrop((14, 20, 30), pad=True)])
def test_a_crop_larger_than_the_volume_is_padded_with_the_fill_value(store: Store, pipeline: str, crop: Crop) -> None:
    with make(store, pipeline=pipeline, crop=crop, augment=None, window=HuWindow(-1024, 3071)) as loader:
        batch = next(iter(loader))
    assert batch.volume.shape[2:] == (14, 20, 30)
    assert (batch.volume[:, :, :2] == 0).all()
    assert (batch.volume[:, :, 12:] == 0).all()
    assert (batch.volume[..., :4] == 0).all()
    assert (batch.volume[:, :, 2:12, :, 4:26] > 0).mean() > 0.9
    np.testing.assert_allclose(batch.volume, executed(store, batch.plan, store.studies.ids), rtol=0, atol=1e-6)


def test_the_whole_volume_is_the_default_crop(store: Store) -> None:
    with make(store, crop=None, augment=None) as loader:
        batch = next(iter(loader))
    stored = np.stack([store.read(study) for study in batch.study])[:, None]
    np.testing.assert_allclose(batch.volume, np.clip((stored + 1000) / 2000, 0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pipeline", pipelines())
def test_a_short_last_batch_is_delivered(store: Store, pipeline: str) -> None:
    sampler = SequentialSampler(batch_size=5, drop_last=False)
    with make(store, pipeline=pipeline, sampler=sampler) as loader:
        batches = [batch for _ in range(2) for batch in loader][:3]
    assert [len(batch.volume) for batch in batches] == [5, 5, 2]
    expected = executed(store, batches[2].plan, store.studies.ids)
    np.testing.assert_allclose(batches[2].volume, expected, rtol=0, atol=1e-6)
    assert [study for batch in batches for study in batch.study] == store.studies.ids


def test_windows_are_in_hu_whatever_the_stored_scale(tmp_path: Path) -> None:
    plain = synthetic_prepared(SHAPE, 1)
    scaled = replace(plain, scale=0.5, offset=-24.0, arrays={"0": ((plain.arrays["0"] + 24) * 2).astype(np.int16)})
    with StoreWriter(tmp_path / "scaled.zarr", Preset.from_name("native")) as writer:
        writer.write("plain", plain)
        writer.write("scaled", scaled)
        writer.finish()
    store = open_store(tmp_path / "scaled.zarr")
    with Loader(store.studies, sampler=SequentialSampler(2), window=HuWindow(-160, 240)) as loader:
        (batch,) = loader
    np.testing.assert_allclose(batch.volume[0], batch.volume[1], rtol=0, atol=1e-6)
    assert batch.plan.window[1].tolist() == [[-160, 240]]


@pytest.mark.parametrize("pipeline", pipelines())
def test_the_affine_includes_crop_flip_and_warp(tmp_path: Path, pipeline: str) -> None:
    """A volume whose HU rise linearly along a direction in RAS+ mm: trilinear resampling keeps them so, and the
    affine of the batch tells what each voxel must hold."""
    shape, slope = (28, 40, 36), np.array([3.0, 4.0, 5.0])
    prepared = synthetic_prepared(shape, 0)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    position = index @ prepared.affine[:3, :3].T + prepared.affine[:3, 3]
    with StoreWriter(tmp_path / "ramp.zarr", Preset.from_name("native")) as writer:
        writer.write("ramp", replace(prepared, arrays={"0": np.rint(position @ slope).astype(np.int16)}))
        writer.finish()
    augment = Augment(flip=(1, 0, 1), rotate_deg=(15, 10, 10), scale=(0.8, 1.2), translate_voxels=(1, 1, 1))
    with Loader(
        open_store(tmp_path / "ramp.zarr").studies,
        sampler=ShuffleSampler(1, seed=2),
        crop=RandomCrop((24, 32, 30)),
        augment=augment,
        window=HuWindow(-1000, 1000),
        pipeline=pipeline,
    ) as loader:
        batch = next(iter(loader))
    inside = np.stack(np.meshgrid(*(np.arange(size // 3, 2 * size // 3) for size in (24, 32, 30)), indexing="ij"), -1)
    position = inside @ batch.affine[0, :3, :3].T + batch.affine[0, :3, 3]
    hu = batch.volume[0, 0][tuple(np.moveaxis(inside, -1, 0))] * 2000 - 1000
    assert np.ptp(position @ slope) > 150
    np.testing.assert_allclose(hu, position @ slope, rtol=0, atol=1.5)  # int16 rounding, twice


def test_batches_stay_valid_and_their_memory_is_used_again_when_they_are_gone(store: Store) -> None:
    pytest.importorskip("nvidia.dali", reason="needs nvidia-dali")
    with make(store, pipeline="dali") as loader:
        kept = [(batch, batch_digest(batch)) for _ in range(3) for batch in loader]
        assert len({batch.volume.ctypes.data for batch, _ in kept}) == len(kept)
        assert all(batch_digest(batch) == digest for batch, digest in kept)
        view = kept[0][0].volume[1:, 0]
        content = view.copy()
        del kept
        addresses = [batch.volume.ctypes.data for _ in range(6) for batch in loader]
        np.testing.assert_array_equal(view, content)  # a view alone keeps the memory
        assert len(set(addresses)) < len(addresses) // 2


@pytest.mark.parametrize("pipeline", pipelines())
def test_torch_and_dlpack_get_the_same_memory(store: Store, pipeline: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    expected = volumes(make(store, pipeline=pipeline))
    tensors = volumes(make(store, pipeline=pipeline, to="torch"))
    shared = volumes(make(store, pipeline=pipeline, to="dlpack"))
    for array, tensor, pack in zip(expected, tensors, shared, strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(array, tensor.numpy())
        assert torch.from_dlpack(pack).data_ptr() == np.from_dlpack(pack).ctypes.data


# ---- who gets what


@pytest.mark.parametrize("pipeline", pipelines())
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_concatenated_are_the_batch_of_one_rank_to_the_bit(store: Store, pipeline: str, world_size: int) -> None:
    sampler = StratifiedSampler("abnormal", {"normal": 25, "abnormal": 75}, batch_size=4, seed=0)
    options: dict[str, Any] = {"pipeline": pipeline, "augment": EVERYTHING, "sampler": sampler}
    whole = volumes(make(store, **options))
    ranks = [volumes(make(store, rank=rank, world_size=world_size, **options)) for rank in range(world_size)]
    assert len(whole) == 3
    for step, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([batches[step] for batches in ranks]), expected)


@pytest.mark.parametrize("pipeline", pipelines())
def test_threads_and_read_ahead_change_no_bit(store: Store, pipeline: str) -> None:
    expected = volumes(make(store, pipeline=pipeline, augment=EVERYTHING))
    for options in ({"num_threads": 3}, {"num_threads": None}, {"prefetch": 1}, {"prefetch": 7}):
        got = volumes(make(store, pipeline=pipeline, augment=EVERYTHING, **options))
        np.testing.assert_array_equal(got, expected)


def test_epochs_advance_and_differ(store: Store) -> None:
    with make(store) as loader:
        orders = []
        for epoch in range(3):
            assert (loader.epoch, loader.step) == (epoch, 0)
            orders.append([study for batch in loader for study in batch.study])
    assert all(sorted(order) == sorted(store.studies.ids) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_the_loop_after_an_early_break_goes_on_with_the_next_batch(store: Store) -> None:
    expected = [batch_digest(batch) for batch in make(store)]
    with make(store) as loader:
        got = []
        for stop_after in (1, 2):
            for number, batch in enumerate(loader, 1):
                got.append(batch_digest(batch))
                if number == stop_after:
                    break
        assert got == expected
        assert (loader.epoch, loader.step) == (1, 0)


# ---- refusals


def test_two_iterators_over_one_loader_are_refused(store: Store) -> None:
    with make(store) as loader:
        first = iter(loader)
        next(first)
        with pytest.raises(LoaderError, match="iterator over this loader is not finished"):
            iter(loader)
        with pytest.raises(LoaderError, match="cannot load a state"):
            loader.load_state_dict(loader.state_dict())
        first.close()
        pair = iter(loader), iter(loader)  # neither has begun
        next(pair[0])
        with pytest.raises(LoaderError, match="not finished"):
            next(pair[1])


def test_iterating_after_close_is_refused(store: Store) -> None:
    loader = make(store)
    loader.close()
    loader.close()
    with pytest.raises(LoaderError, match="this loader is closed"):
        iter(loader)


def test_closing_inside_the_loop_never_looks_like_the_end_of_the_epoch(store: Store) -> None:
    loader = make(store)
    seen = []

    def loop() -> None:
        for batch in loader:
            seen.append(batch)
            loader.close()

    with pytest.raises(LoaderError, match="closed before epoch 0 ended, at step 1 of 3"):
        loop()
    assert len(seen) == 1


def test_no_thread_is_left_after_close_or_a_loop_that_was_left(store: Store) -> None:
    before = threading.active_count()
    loader = make(store)
    next(iter(loader))
    assert threading.active_count() == before  # the iterator is gone, and its thread with it
    list(loader)
    assert threading.active_count() > before  # the next epoch is being read
    loader.load_state_dict(loader.state_dict())
    assert threading.active_count() == before
    unfinished = iter(loader)
    next(unfinished)
    assert threading.active_count() > before
    loader.close()
    assert threading.active_count() == before


def test_a_loader_that_was_dropped_between_epochs_leaves_no_thread(store: Store) -> None:
    before = threading.active_count()
    loader = make(store)
    list(loader)
    del loader
    gc.collect()
    assert threading.active_count() == before


def test_a_loader_that_does_not_read_past_its_epoch_ends_its_thread_with_it(store: Store) -> None:
    before = threading.active_count()
    with make(store, reads_past_epoch=False) as loader:
        first = [batch_digest(batch) for batch in loader]
        assert threading.active_count() == before
        second = [batch_digest(batch) for batch in loader]
    with make(store) as loader:
        assert first + second == [batch_digest(batch) for _ in range(2) for batch in loader]


def test_the_first_batch_of_the_next_epoch_is_ready_before_it_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[tuple[int, int]] = []
    is_ready = threading.Event()
    execute = ReferencePipeline.execute

    def counting(self: ReferencePipeline, slot: Any, plan: BatchPlan) -> np.ndarray:
        executed.append((plan.epoch, plan.step))
        if (plan.epoch, plan.step) == (1, 1):
            is_ready.set()  # one thread executes, so the batch before is finished
        return execute(self, slot, plan)

    monkeypatch.setattr(ReferencePipeline, "execute", counting)
    with make(store, pipeline="reference") as loader:
        list(loader)
        state = loader.state_dict()
        assert is_ready.wait(30)
        assert (state["epoch"], state["step"]) == (1, 0)  # what is delivered counts, not what is ready
        assert loader.state_dict() == state
        assert loader.stats().num_batches == 3
        batch = next(iter(loader))
        assert (batch.plan.epoch, batch.plan.step) == (1, 0)
    assert executed[:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]  # each once


def test_an_error_in_the_next_epoch_waits_until_that_epoch_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = ReferencePipeline.execute

    def failing(self: ReferencePipeline, slot: Any, plan: BatchPlan) -> np.ndarray:
        if plan.epoch == 1:
            raise ZeroDivisionError("epoch 1")
        return execute(self, slot, plan)

    monkeypatch.setattr(ReferencePipeline, "execute", failing)
    with make(store, pipeline="reference") as loader:
        assert len(list(loader)) == 3
        for _ in range(2):  # and comes again, as the position has not moved
            with pytest.raises(ZeroDivisionError, match="epoch 1"):
                next(iter(loader))
        assert (loader.epoch, loader.step) == (1, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"crop": RandomCrop((64, 16, 16))}, PlanError, "pass pad=True"),
        ({"world_size": 3}, SamplerError, "world_size=3 cannot share a batch of 4"),
        ({"rank": 2, "world_size": 2}, SamplerError, "rank=2"),
        ({"sampler": SequentialSampler(4), "world_size": 0}, SamplerError, "world_size=0"),
        ({"channels": ("0", "7")}, PlanError, "has no channel .7., only"),
        ({"channels": "0"}, LoaderError, "sequence of array names"),
        ({"pipeline": "fast"}, LoaderError, "no pipeline 'fast'"),
        ({"device": "cuda"}, LoaderError, "to='numpy' is not possible on device='cuda'"),
        ({"device": "cuda", "to": "torch", "pipeline": "numba"}, LoaderError, "take pipeline='dali'"),
        ({"device": "tpu"}, LoaderError, "no device .tpu.; devices are"),
        ({"to": "jax"}, LoaderError, "to='jax'"),
        ({"prefetch": 0}, LoaderError, "prefetch needs at least 1"),
        ({"on_corrupt": "skip"}, LoaderError, "'raise' or 'replace'"),
        ({"num_threads": 0}, LoaderError, "num_threads"),
        ({"window": ()}, LoaderError, "at least one HuWindow"),
    ],
)
def test_wrong_options_are_typed_errors_with_a_way_out(
    store: Store, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(store, **options)


def test_a_batch_that_ranks_cannot_share_at_the_end_is_refused_at_the_beginning(store: Store) -> None:
    with pytest.raises(SamplerError, match="drop_last=True"):
        make(store, sampler=SequentialSampler(batch_size=10, drop_last=False), studies=store.studies.take(range(11)),
             world_size=2)  # fmt: skip


def test_volumes_of_several_shapes_need_a_crop(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "mixed.zarr", 2, [(10, 20, 20), (12, 20, 20)])
    with pytest.raises(PlanError, match="needs studies of one shape"):
        Loader(store.studies, sampler=SequentialSampler(2))
    with Loader(store.studies, sampler=SequentialSampler(2), crop=CenterCrop((10, 20, 20))) as loader:
        assert next(iter(loader)).volume.shape == (2, 1, 10, 20, 20)


def test_a_warp_over_different_fill_values_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "fills.zarr", Preset.from_name("native")) as writer:
        writer.write("ct", synthetic_prepared(SHAPE, 0))
        writer.write("pet", replace(synthetic_prepared(SHAPE, 1), fill_value=0, unit="SUV"))
        writer.finish()
    studies = open_store(tmp_path / "fills.zarr").studies
    with pytest.raises(PlanError, match=r"fill values \[-1024, 0\]"):
        Loader(studies, sampler=SequentialSampler(2), augment=Augment(rotate_deg=(5, 0, 0)))
    Loader(studies, sampler=SequentialSampler(2), augment=FLIPS).close()


@pytest.mark.parametrize(
    ("absent", "options", "message"),
    [
        ("nvidia.dali", {"pipeline": "dali"}, r'pip install "ctload\[dali\]"'),
        ("cupy", {"pipeline": "dali", "device": "cuda", "to": "torch"}, r"ctload\[dali,cuda\]"),
        ("ctload.adapters.torch", {"to": "torch"}, "pip install torch"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    store: Store, absent: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(LoaderError, match=message):
        make(store, **options)


def test_studies_without_a_store_are_refused(store: Store) -> None:
    with pytest.raises(LoaderError, match="belong to no store"):
        Loader(ctload.Studies(store.studies.table), sampler=SequentialSampler(2))


# ---- life and time


def test_statistics_count_what_was_delivered(store: Store) -> None:
    with make(store) as loader:
        assert loader.stats().num_batches == 0
        next(iter(loader))
        list(loader)
        stats = loader.stats()
    assert (stats.num_batches, stats.num_studies, stats.num_replaced) == (3, 12, 0)
    assert stats.wait_s > 0
    assert stats.pipeline_s > 0
    assert stats.draw_s > 0
    assert stats.num_probed >= 3  # batches 0, 1 and 2, and what was read ahead
    assert stats.probe_s > 0
    assert min(stats.read_s, stats.decode_s, stats.copy_s) >= 0
    assert stats.read_s + stats.decode_s + stats.copy_s > 0


UNFINISHED = """
import sys
from ctload import Loader, ShuffleSampler, open_store
loader = Loader(open_store(sys.argv[1]).studies, sampler=ShuffleSampler(2, seed=0))
if sys.argv[2] == "kept":
    iterator = iter(loader)
    next(iterator)
for batch in () if sys.argv[2] == "kept" else loader:
    raise ValueError("stop here")
"""


@pytest.mark.parametrize(("how", "code"), [("kept", 0), ("raised", 1)])
def test_a_program_ends_with_an_unfinished_iterator(store: Store, how: str, code: int) -> None:
    command = [sys.executable, "-c", UNFINISHED, str(store.path), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path.cwd())
    assert done.returncode == code, done.stderr
    assert ("stop here" in done.stderr) == (code == 1)


@pytest.mark.parametrize("pipeline", pipelines())
def test_memory_does_not_grow_with_the_number_of_batches(tmp_path: Path, pipeline: str) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc/self/statm (Linux)")
    small = synthetic_store(tmp_path / "small.zarr", 40, (4, 16, 16))

    def resident_mb() -> float:
        return int(statm.read_text().split()[1]) * 4096 / 1e6

    sizes = []
    with make(small, pipeline=pipeline, sampler=ShuffleSampler(2, seed=0), crop=RandomCrop((4, 8, 8))) as loader:
        for _ in range(20):
            num_batches = sum(1 for _ in loader)
            assert num_batches == 20
            sizes.append(resident_mb())
    assert sizes[-1] - sizes[5] < 10


def test_threads_are_a_share_of_the_cores_where_a_launcher_says_how_many_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    shares = []
    for local in ("", "1", "4", "5", "64", "many"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        shares.append(thread_share())
    assert shares == [12, 12, 3, 2, 1, 12]


def test_plans_are_drawn_without_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(store) as loader:
        batches = list(loader)
        monkeypatch.setattr(Store, "start_read", lambda *_: pytest.fail("read a voxel"))
        for batch in batches:
            again = loader.plan(batch.plan.epoch, batch.plan.step)
            np.testing.assert_equal(vars(again), vars(batch.plan))


def test_one_epoch_by_rank_reads_each_study_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    start_read: Callable[..., Any] = Store.start_read
    monkeypatch.setattr(
        Store, "start_read", lambda self, row, *a, **k: (read.append(row), start_read(self, row, *a, **k))[1]
    )
    for rank in range(2):
        with make(store, rank=rank, world_size=2, reads_past_epoch=False) as loader:
            list(loader)
    assert sorted(read) == list(range(12))
