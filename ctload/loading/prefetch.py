"""Prefetcher: one thread that reads ahead, executes plans in order, and hands over finished batches.

Enter the steps to do, a way to draw their plans, a BatchReader, a SlotRing and a Pipeline; leave executed batches in
the order of the steps. Reads of later batches run on the store's threads while the pipeline executes and the caller
computes. A slot is released only when the pipeline is done with it, or when every read into it has ended.
"""

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctload.loading.reading import BatchReader, PendingBatch, ReadBatch
from ctload.loading.slots import Slot, SlotRing
from ctload.loading.stats import LoaderStats, divide_wait
from ctload.pipeline.spec import Pipeline
from ctload.planning.plan import BatchPlan
from ctload.process import forkguard
from ctload.storage.read_probe import ReadCost


@dataclass(frozen=True)
class Executed:
    """One finished batch.

    Attributes:
        volumes, labels: What the pipeline returned for each view; no labels where there are none.
        read: The plan as it was read, and what was replaced.
        stats: Of this batch.
    """

    volumes: tuple[Any, ...]
    labels: tuple[Any, ...]
    read: ReadBatch
    stats: LoaderStats


class _End:
    """What the thread says last: the steps are done, or why it stopped."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetcher:
    """An iterator over executed batches. Close it, or read it to its end; either joins its thread.

    Args:
        plans: Plans in order; drawn in the thread, as far ahead as there are slots.
        reader: Reads them.
        ring: Slots; one is executed while the others are read into.
        num_arrays: Of each study in a slot: channels and label maps.
        pipeline: Executes them; used by the thread alone.
        to_stored: The plan with its windows in stored units, as the pipeline needs it.
    """

    def __init__(
        self,
        plans: Iterable[BatchPlan],
        *,
        reader: BatchReader,
        ring: SlotRing,
        num_arrays: int,
        pipeline: Pipeline,
        to_stored: Callable[[BatchPlan], BatchPlan],
    ) -> None:
        self._plans = iter(plans)
        self._reader = reader
        self._ring = ring
        self._num_arrays = num_arrays
        self._pipeline = pipeline
        self._to_stored = to_stored
        self._pending: deque[tuple[PendingBatch, Slot]] = deque()
        self._finished: queue.Queue[Executed | _End] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._cost = ReadCost()  # of all reads that were probed
        self._probed = LoaderStats()  # since the last batch
        self._is_over = False
        # A daemon, because a thread waiting for room would keep the interpreter from ending; it is joined at exit.
        self._thread = threading.Thread(target=self._run, name="ctload-prefetch", daemon=True)
        self._shut_down = weakref.finalize(self, _shut_down, self._thread, self._stop, self._finished)
        self._thread.start()

    def __iter__(self) -> Iterator[Executed]:
        return self

    def __next__(self) -> Executed:
        """The next batch.

        Raises:
            StopIteration: No steps are left.
            ForkAfterOpenError: This process was forked after the iterator had been started.
            CtloadError: What went wrong in reading or executing it; the batches before were delivered.
        """
        if self._is_over:
            raise StopIteration
        forkguard.check()  # in a forked child the thread is gone, and waiting for it would not end
        item = self._finished.get()
        if isinstance(item, Executed):
            return item
        self.close()
        if item.error is not None:
            raise item.error
        raise StopIteration

    def close(self) -> None:
        """Stop, drop what was read ahead and join the thread. Does nothing the second time."""
        self._is_over = True
        self._shut_down()

    def _run(self) -> None:
        error = None
        try:
            self._work()
        except BaseException as caught:  # handed to the caller, whatever it is
            error = caught
        try:
            while self._pending:
                pending, slot = self._pending.popleft()
                pending.wait()
                self._ring.release(slot)
        finally:
            self._finished.put(_End(error))

    def _work(self) -> None:
        full_s = 0.0
        while not self._stop.is_set():
            started = time.perf_counter()
            self._read_ahead()
            if not self._pending:
                break
            drawn = time.perf_counter()
            executed = self._execute(drawn - started, full_s)
            handing_over = time.perf_counter()
            self._finished.put(executed)
            full_s = time.perf_counter() - handing_over
        if self._failed is not None:
            raise self._failed

    def _read_ahead(self) -> None:
        """Start reads for as long as there are slots and plans. An error waits until the batches before it are out."""
        while self._ring.has_free and self._failed is None and not self._stop.is_set():
            try:
                plan = next(self._plans, None)
                if plan is None:
                    return
                self._start(plan)
            except BaseException as error:
                self._failed = error

    def _start(self, plan: BatchPlan) -> None:
        _, shapes = plan.read_boxes()
        slot = self._ring.take([(self._num_arrays, *shape) for shape in shapes.tolist()])
        pending = PendingBatch(plan, slot)
        try:
            self._reader.start(pending)
        except BaseException:
            pending.wait()
            self._ring.release(slot)
            raise
        self._pending.append((pending, slot))
        if pending.cost is not None:
            self._cost = self._cost + pending.cost
            self._probed = self._probed + LoaderStats(num_probed=1, probe_s=pending.cost.seconds)

    def _execute(self, draw_s: float, full_s: float) -> Executed:
        """Finish the reads of the oldest batch, execute it and free its slot. Times are of what came before."""
        pending, slot = self._pending[0]
        started = time.perf_counter()
        read = self._reader.finish(pending)
        was_read = time.perf_counter()
        slot.begin_executing()
        plan = self._to_stored(read.plan)
        starts, _ = plan.read_boxes()
        boxes = [boxes_of(slot.voxels, starts, view) for view in plan.views]
        volumes = tuple(map(self._pipeline.execute, boxes, plan.views))
        has_labels = self._pipeline.spec.num_labels > 0
        labels = tuple(map(self._pipeline.execute_labels, boxes, plan.views)) if has_labels else ()
        executed = time.perf_counter()
        self._pending.popleft()
        self._ring.release(slot)
        probed, self._probed = self._probed, LoaderStats()
        stats = LoaderStats(
            num_batches=1,
            num_studies=read.plan.batch_size,
            num_replaced=read.num_replaced,
            draw_s=draw_s - probed.probe_s,
            pipeline_s=executed - was_read,
            full_s=full_s,
        )
        stats = stats + probed + divide_wait(was_read - started, self._cost)
        return Executed(volumes, labels, read, stats)


def boxes_of(voxels: Sequence[np.ndarray], starts: np.ndarray, view: BatchPlan) -> list[np.ndarray]:
    """The box of each study that one view reads, as parts of what was read.

    Args:
        voxels: Of each study (C, d, h, w).
        starts: (B, 3), voxel of the stored array where each begins.
        view: The view's plan.
    """
    boxes = []
    for at, whole in enumerate(voxels):
        first = view.box_start[at] - starts[at]
        z, y, x = (slice(int(low), int(low + size)) for low, size in zip(first, view.box_shapes[at], strict=True))
        boxes.append(whole[:, z, y, x])
    return boxes


def _shut_down(thread: threading.Thread, stop: threading.Event, finished: "queue.Queue[Executed | _End]") -> None:
    """Stop a prefetcher's thread and wait for its end."""
    stop.set()
    while thread.is_alive():
        try:
            finished.get(timeout=0.01)  # the thread may be waiting for room
        except queue.Empty:
            continue
