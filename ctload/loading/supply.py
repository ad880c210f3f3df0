"""BatchSupply: executed batches from a position on. What a loader opens once (reader, slots, pipeline) lives here.

It goes on reading between two epochs and stops when told to, or when it is dropped. It counts nothing.
"""

import weakref
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from ctload.loading.options import needs_of
from ctload.loading.prefetch import Prefetcher
from ctload.loading.reading import BatchReader
from ctload.loading.slots import SlotRing
from ctload.pipeline.opening import open_pipeline
from ctload.pipeline.spec import PipelineSpec, in_stored_units
from ctload.planning.augment import Augment
from ctload.planning.order import BatchOrder, plans_from
from ctload.planning.plan import BatchPlan
from ctload.process.cores import thread_share
from ctload.storage.read_probe import ReadProbe


class BatchSupply:
    """Reads and executes what an order says.

    Args:
        order: Whose batches.
        channels, labels, on_corrupt, pipeline, device, prefetch, num_threads, poison_slots: As a Loader has them.

    Raises:
        LoaderError: A package is not installed, there is no such GPU, or the studies belong to no store.
        PlanError: A warp over studies with different fill values.
        ForkAfterOpenError: This process was forked after a store had been opened.
    """

    def __init__(
        self,
        order: BatchOrder,
        *,
        channels: Sequence[str],
        labels: Sequence[str],
        on_corrupt: str,
        pipeline: str,
        device: str,
        prefetch: int,
        num_threads: int | None,
        poison_slots: bool,
    ) -> None:
        studies, max_batch = order.studies, order.bound.batch_size // order.world_size
        self._num_arrays = len(channels) + len(labels)
        self._scales = np.stack([studies.column("scale"), studies.column("offset")], axis=1)
        self._reader = BatchReader(
            studies,
            channels=channels,
            labels=labels,
            bound=order.bound,
            crop=order.crop,
            on_corrupt=on_corrupt,
            probe=ReadProbe(),
        )
        spec = PipelineSpec(
            max_batch=max_batch,
            num_channels=len(channels),
            num_windows=len(order.windows),
            num_labels=len(labels),
            num_threads=num_threads or thread_share(),
            **needs_of(studies, order.augment or Augment(), order.crop),
        )
        self._pipeline = open_pipeline(pipeline, device, spec)
        self._ring = SlotRing(
            self._pipeline.allocate,
            num_slots=prefetch + 1,
            max_batch=max_batch,
            num_voxels=self._num_arrays * int(np.prod(order.crop.max_read(studies, order.num_views))),
            poison=poison_slots,
        )
        self._prefetcher: Prefetcher | None = None
        self._end: Callable[[], object] = lambda: None

    def batches(
        self, order: BatchOrder, epoch: int, step: int, *, quarantine: set[str], num_batches: int | None
    ) -> Prefetcher:
        """Go on where reading stands, or begin at a position.

        Args:
            order: What is read.
            epoch: Of the batch that comes next; where reading goes on, it stands there.
            step: Of it.
            quarantine: Ids of studies known to be damaged.
            num_batches: After how many to end; None is without end.
        """
        if self._prefetcher is None:
            self._reader.bound = order.bound
            self._reader.quarantine = quarantine
            # Nothing here refers to the supply, so one that was dropped ends its thread too.
            scales, plans = self._scales, islice(plans_from(order, epoch, step), num_batches)

            def to_stored(plan: BatchPlan) -> BatchPlan:
                return in_stored_units(plan, scales[plan.rows])

            self._prefetcher = Prefetcher(
                plans,
                reader=self._reader,
                ring=self._ring,
                num_arrays=self._num_arrays,
                pipeline=self._pipeline,
                to_stored=to_stored,
            )
            self._end = weakref.finalize(self, self._prefetcher.close)
        return self._prefetcher

    def stop(self) -> None:
        """Drop what was read ahead and end the thread."""
        self._end()
        self._prefetcher = None

    def close(self) -> None:
        """Stop, and release slots, threads and device memory. Arrays that were handed over stay valid."""
        self.stop()
        self._pipeline.close()
