"""Prefetcher and slots: reads run ahead, batches come in order, and no slot is used again too early."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ctload.loading.loader import Loader
from ctload.loading.prefetch import Prefetcher
from ctload.loading.reading import BatchReader, PendingBatch, ReadBatch
from ctload.loading.slots import POISON, SlotRing
from ctload.pipeline.reference import ReferencePipeline
from ctload.pipeline.spec import PipelineSpec
from ctload.planning.augment import Augment
from ctload.planning.crop import RandomCrop
from ctload.planning.plan import BatchPlan
from ctload.sampling.sampler import ShuffleSampler
from ctload.storage.store import Store
from ctload.testing import synthetic_store
from tests.ctload.plans import plain_plan, spec_of

SHAPE = (2, 3, 4)


class LoggingReader:
    """Reads the step of a plan into its slot, and notes what it does."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def start(self, pending: PendingBatch) -> None:
        self.log.append(f"start {pending.plan.step}")
        for voxels in pending.slot.voxels:
            voxels[:] = pending.plan.step

    def finish(self, pending: PendingBatch) -> ReadBatch:
        self.log.append(f"finish {pending.plan.step}")
        return ReadBatch(pending.plan, (), 0)


class LoggingPipeline(ReferencePipeline):
    """Gives the number it finds in the slot."""

    def __init__(self, spec: PipelineSpec, log: list[str]) -> None:
        super().__init__(spec)
        self.log = log

    def execute(self, slot: Sequence[np.ndarray], plan: BatchPlan) -> Any:
        self.log.append(f"execute {plan.step}")
        return {value for voxels in slot for value in voxels.ravel().tolist()}


def plans(num: int) -> Iterator[BatchPlan]:
    return (replace(plain_plan(1, SHAPE), step=step) for step in range(num))


def prefetcher_of(num: int, *, num_slots: int, log: list[str], **replaced: Any) -> tuple[Prefetcher, SlotRing]:
    pipeline = replaced.pop("pipeline", LoggingPipeline(spec_of(plain_plan(1, SHAPE)), log))
    ring = SlotRing(pipeline.allocate, num_slots=num_slots, max_batch=1, num_voxels=24, poison=True)
    options: dict[str, Any] = {"reader": LoggingReader(log), "plans": plans(num), "to_stored": lambda plan: plan}
    options.update(replaced)
    return Prefetcher(**options, ring=ring, num_arrays=1, pipeline=pipeline), ring


@pytest.mark.parametrize("num_slots", [1, 2, 5])
def test_batches_come_in_order_each_from_its_own_slot(num_slots: int) -> None:
    prefetcher, ring = prefetcher_of(20, num_slots=num_slots, log=[])
    got = [(executed.read.plan.step, executed.volumes[0]) for executed in prefetcher]
    assert got == [(step, {step}) for step in range(20)]
    assert ring.num_free == num_slots
    assert list(prefetcher) == []


def test_reads_of_later_batches_start_before_a_batch_is_executed() -> None:
    log: list[str] = []
    prefetcher, _ = prefetcher_of(6, num_slots=3, log=log)
    list(prefetcher)
    for step in range(6):
        before = log[: log.index(f"execute {step}")]
        assert [line for line in before if line.startswith("start")] == [f"start {s}" for s in range(min(step + 3, 6))]
        assert f"finish {step}" in before


def test_the_thread_waits_for_the_caller_instead_of_filling_memory() -> None:
    log: list[str] = []
    prefetcher, ring = prefetcher_of(100, num_slots=2, log=log)
    next(prefetcher)
    deadline = time.monotonic() + 5
    while "execute 2" not in log and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One batch was taken, one waits in the queue, one is executed and waits for room.
    assert [line for line in log if line.startswith("execute")] == ["execute 0", "execute 1", "execute 2"]
    prefetcher.close()
    assert ring.num_free == 2


def test_closing_joins_the_thread_and_frees_all_slots_at_any_moment() -> None:
    for taken in range(6):
        before = threading.active_count()
        prefetcher, ring = prefetcher_of(8, num_slots=3, log=[])
        for _ in range(taken):
            next(prefetcher)
        prefetcher.close()
        prefetcher.close()
        assert threading.active_count() == before
        assert ring.num_free == 3
        assert list(prefetcher) == []


@pytest.mark.parametrize("where", ["plans", "start", "finish", "execute"])
def test_an_error_comes_after_the_batches_before_it_and_frees_all_slots(where: str) -> None:
    log: list[str] = []
    options: dict[str, Any] = {}

    def fail_at_3(method: Any) -> Any:
        def failing(*arguments: Any) -> Any:
            plan = next((a for a in arguments if isinstance(a, BatchPlan)), None) or arguments[0].plan
            if plan.step == 3:
                raise ZeroDivisionError(where)
            return method(*arguments)

        return failing

    def failing_plans() -> Iterator[BatchPlan]:
        yield from plans(3)
        raise ZeroDivisionError(where)

    reader, pipeline = LoggingReader(log), LoggingPipeline(spec_of(plain_plan(1, SHAPE)), log)
    if where == "plans":
        options["plans"] = failing_plans()
    else:
        owner: Any = pipeline if where == "execute" else reader
        setattr(owner, where, fail_at_3(getattr(owner, where)))
    prefetcher, ring = prefetcher_of(8, num_slots=2, log=log, reader=reader, pipeline=pipeline, **options)
    got = []
    with pytest.raises(ZeroDivisionError, match=where):
        got.extend(executed.read.plan.step for executed in prefetcher)
    assert got == [0, 1, 2]
    assert ring.num_free == 2
    assert list(prefetcher) == []


# ---- slots


def test_a_slot_in_use_is_never_taken_and_never_released_twice() -> None:
    ring = SlotRing(lambda n: np.zeros(n, np.int16), num_slots=1, max_batch=1, num_voxels=24)
    slot = ring.take([(1, *SHAPE)])
    assert not ring.has_free
    with pytest.raises(AssertionError, match="taken while reading"):
        slot.begin_reading([(1, *SHAPE)])
    slot.begin_executing()
    with pytest.raises(AssertionError, match="executed while executing"):
        slot.begin_executing()
    ring.release(slot)
    with pytest.raises(AssertionError, match="released twice"):
        ring.release(slot)
    with pytest.raises(AssertionError, match="executed while free"):
        slot.begin_executing()


def test_a_poisoned_ring_overwrites_what_it_gets_back() -> None:
    ring = SlotRing(lambda n: np.zeros(n, np.int16), num_slots=1, max_batch=1, num_voxels=24, poison=True)
    slot = ring.take([(1, *SHAPE)])
    kept = slot.voxels[0]
    kept[:] = 7
    ring.release(slot)
    assert (kept == POISON).all()


# ---- mutants: a slot that is used again too early must show


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("prefetch") / "six.zarr", 6, (8, 24, 24))


def run(store: Store, pipeline: str = "reference") -> list[np.ndarray]:
    with Loader(
        store.studies,
        sampler=ShuffleSampler(2, seed=0),
        crop=RandomCrop((8, 16, 16)),
        augment=Augment(flip=(0, 0.5, 0.5)),
        pipeline=pipeline,
        num_threads=1,
        poison_slots=True,
    ) as loader:
        return [batch.volume.copy() for _ in range(2) for batch in loader]


@pytest.mark.parametrize("pipeline", ["reference", "numba", "dali"])
def test_a_slot_released_before_it_is_executed_shows(
    store: Store, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pipeline == "dali":
        pytest.importorskip("nvidia.dali", reason="needs nvidia-dali")
    expected = run(store, pipeline)
    finish = BatchReader.finish

    def finish_and_poison(self: BatchReader, pending: PendingBatch) -> ReadBatch:
        read = finish(self, pending)
        for voxels in pending.slot.voxels:
            voxels[:] = POISON  # what a release here would do
        return read

    monkeypatch.setattr(BatchReader, "finish", finish_and_poison)
    assert all((got != right).any() for got, right in zip(run(store, pipeline), expected, strict=True))


def test_a_pipeline_that_reads_its_slot_after_it_returned_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(store)
    execute = ReferencePipeline.execute
    late: list[Any] = []

    def execute_late(self: ReferencePipeline, slot: Sequence[np.ndarray], plan: BatchPlan) -> np.ndarray:
        """Return at once and fill the batch at the next call, as an asynchronous pipeline might."""
        for arguments, out in late:
            out[:] = execute(self, *arguments)
        out = np.zeros((len(slot), 1, *plan.crop_shape), np.float32)
        late[:] = [((slot, plan), out)]
        return out

    monkeypatch.setattr(ReferencePipeline, "execute", execute_late)
    got = run(store)
    assert any((volume != right).any() for volume, right in zip(got[:-1], expected[:-1], strict=True))


def test_executing_before_the_reads_are_done_shows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(store)
    start_read = Store.start_read

    class Later:
        """A read that writes only when it is waited for."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.read = lambda: start_read(*arguments, **options).result()

        def result(self) -> np.ndarray:
            return self.read()

    monkeypatch.setattr(Store, "start_read", lambda *arguments, **options: Later(*arguments, **options))
    np.testing.assert_array_equal(run(store), expected)

    def finish_without_waiting(self: BatchReader, pending: PendingBatch) -> ReadBatch:
        return ReadBatch(pending.plan, (), 0)

    monkeypatch.setattr(BatchReader, "finish", finish_without_waiting)
    assert all((got != right).any() for got, right in zip(run(store), expected, strict=True))
