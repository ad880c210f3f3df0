"""Loader: studies in a store in, batches out, epoch after epoch. It counts; plans are drawn, read and executed
elsewhere (drawing.py, reading.py, pipeline/), in a thread of its own (prefetch.py).
"""

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ctload.errors import LoaderError
from ctload.loading.batch import Batch
from ctload.loading.delivery import assemble_batch
from ctload.loading.options import check_arrays, check_options, check_ranks, converter
from ctload.loading.prefetch import Executed, Prefetcher
from ctload.loading.quarantine import DamagedStudyWarning, Replaced, from_state, to_state
from ctload.loading.state import FORMAT, check_state, fingerprints
from ctload.loading.stats import LoaderStats
from ctload.loading.supply import BatchSupply
from ctload.planning.augment import Augment
from ctload.planning.crop import Crop, WholeVolume
from ctload.planning.order import BatchOrder, plan_at
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.sampling.bound import BoundSampler
from ctload.sampling.elastic import BoundResumed, ListSampler, num_batches_of, resume_at, shift_in
from ctload.sampling.sampler import Sampler
from ctload.storage.manifest import Studies

_BODY = HuWindow(-1000, 1000)


class Loader:
    """Batches of one rank, in an order that is a pure function of the sampler's seed.

    `for batch in loader` gives the remaining batches of the current epoch; then the epoch advances. A batch counts as
    delivered when it is handed out, so a state saved in the loop body resumes with the next one. Leaving the loop
    early is allowed: the next loop goes on with the batch after. After a whole epoch the loader reads on, so that the
    next one begins without a wait. Batches stay valid for as long as they are referenced; afterwards their memory is
    used again. On a GPU, whoever reads a batch on a stream other than the default one keeps it referenced until that
    stream is done with it.

    Args:
        studies: Rows of a store, as `open_store(path).studies` or `.where(...)` gives them.
        sampler: Which studies make a batch.
        crop: Where in each volume; None is the whole volume, which needs studies of one shape.
        window: One HuWindow or several, in HU (the unit of the store). Several become channels.
        augment: Random changes; None for none.
        pipeline: "auto" is "numba" on the CPU and "dali" on a GPU (`pip install "ctload[dali,cuda]"`); "dali" also
            runs on the CPU, and "reference" is the same in plain NumPy: the oracle, slow.
        device: "cpu", "cuda" or "cuda:N", where batches are made; with several GPUs give each rank its own N.
        to: Array library of `batch.volume`: "numpy", "torch", "cupy", or "dlpack" (an object with `__dlpack__`).
        rank: Number of this process, 0 <= rank < world_size.
        world_size: Processes that share every batch; divides the batch size. The ranks' batches, concatenated, are
            the batch of world_size=1, to the bit.
        prefetch: Batches read ahead of the one being executed, >= 1.
        num_views: Views of each study, >= 1, from one read: each has a crop and augmentations of its own. They are
            `batch.views[v].volume`; view 0 is `batch.volume`, and is the same whatever their number.
        channels: Stored arrays that are read, "0" the volume.
        labels: Names of stored label maps that come with each batch, as `batch.labels[name]`.
        on_corrupt: "raise", or "replace": a damaged study gives way to the next member of its stratum, is recorded
            in the quarantine and warned of.
        num_threads: CPU threads of the pipeline; None is one for each core that this process may use, divided by
            LOCAL_WORLD_SIZE where a launcher set it. It changes no bit. open_store has its own, for reading.
        reads_past_epoch: Whether the first batches of the next epoch are made ready when one ends. They take the
            memory of two batches; False suits a loader that is seldom iterated, as for validation.
        poison_slots: Overwrite slots when they are released. A debugging aid: what reads one too late shows.

    Raises:
        PlanError: A study the crop does not fit, or without one of the channels.
        SamplerError: A batch cannot be drawn as asked, or world_size does not divide it.
        LoaderError: A wrong option, a package that is not installed, or studies without a store.

    Example:
        >>> loader = Loader(studies, sampler=ShuffleSampler(batch_size=8, seed=0), crop=RandomCrop((96, 192, 192)),
        ...                 window=HuWindow(-1000, 1000), pipeline="dali", to="torch")  # doctest: +SKIP
        >>> for batch in loader:                                                        # doctest: +SKIP
        ...     step(batch.volume)                                                      # (8, 1, 96, 192, 192)
    """

    def __init__(
        self,
        studies: Studies,
        *,
        sampler: Sampler,
        crop: Crop | None = None,
        window: HuWindow | Sequence[HuWindow] = _BODY,
        augment: Augment | None = None,
        pipeline: str = "auto",
        device: str = "cpu",
        to: str = "numpy",
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 2,
        num_views: int = 1,
        channels: Sequence[str] = ("0",),
        labels: Sequence[str] = (),
        on_corrupt: str = "raise",
        num_threads: int | None = None,
        reads_past_epoch: bool = True,
        poison_slots: bool = False,
    ) -> None:
        windows = (window,) if isinstance(window, HuWindow) else tuple(window)
        check_options(
            prefetch=prefetch,
            num_views=num_views,
            on_corrupt=on_corrupt,
            num_threads=num_threads,
            channels=channels,
            labels=labels,
            windows=windows,
        )
        self._convert = converter(to, device)
        self._ids = studies.table["study"]
        self._affines = studies.affines
        crop = WholeVolume() if crop is None else crop
        bound = sampler.bind(studies)
        crop.check(studies)
        check_arrays(studies, channels, labels)
        check_ranks(bound, rank, world_size)
        self._order = BatchOrder(bound, studies, crop, windows, augment, num_views, rank, world_size)
        self._labels = tuple(labels)
        self._supply = BatchSupply(
            self._order,
            channels=channels,
            labels=labels,
            on_corrupt=on_corrupt,
            pipeline=pipeline,
            device=device,
            prefetch=prefetch,
            num_threads=num_threads,
            poison_slots=poison_slots,
        )
        self._fingerprints = fingerprints(
            studies=studies,
            bound=bound,
            sampler=sampler,
            crop=crop,
            windows=windows,
            augment=augment,
            channels=channels,
            labels=labels,
            num_views=num_views,
        )
        self._epoch, self._step = 0, 0
        self._quarantine: list[Replaced] = []
        self._stats = LoaderStats()
        self._reads_past_epoch = reads_past_epoch
        self._is_iterating = False
        self._is_closed = False

    @property
    def epoch(self) -> int:
        """Epoch of the next batch. Once the last batch of an epoch is handed out, this is the next epoch."""
        return self._epoch

    @property
    def step(self) -> int:
        """Step of the next batch within its epoch."""
        return self._step

    @property
    def num_batches(self) -> int:
        """Batches per epoch; the epoch in which a run went on with another batch size may have another number."""
        return self._bound.num_batches

    @property
    def _bound(self) -> BoundSampler:
        return self._order.bound

    def __len__(self) -> int:
        return self.num_batches

    def plan(self, epoch: int, step: int) -> BatchPlan:
        """The plan of this rank's batch at (epoch, step), drawn without reading a voxel."""
        return plan_at(self._order, epoch, step)

    def __iter__(self) -> Iterator[Batch]:
        """The remaining batches of the current epoch.

        Raises:
            LoaderError: The loader is closed, or another iterator over it is not finished.
        """
        self._check_idle("iterate")
        return self._batches()

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: counters of delivered batches, fingerprints, quarantine. Plain data, below 2 kB
        beside the quarantine, the same on every rank but for the quarantine."""
        return {
            "format": FORMAT,
            "epoch": self._epoch,
            "step": self._step,
            "batch_size": self._bound.batch_size,
            "shift": shift_in(self._bound, self._epoch),
            "fingerprints": dict(self._fingerprints),
            "quarantine": to_state(self._quarantine),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, allow_mismatch: Collection[str] = ()) -> None:
        """Go to where a state was saved; the next batch is the one after the last that was delivered then.

        With a SequentialSampler or a ShuffleSampler without units the batch size may differ from what was saved: the
        epoch goes on with the studies that were not delivered yet, each once.

        Args:
            state: Of `state_dict`, of any rank and any world size.
            allow_mismatch: Names among "studies", "sampler", "crop", "window", "augment", "channels" that may
                differ from what was saved.

        Raises:
            ResumeMismatchError: The state is of another loader.
            LoaderError: The loader is closed or being iterated.
        """
        self._check_idle("load a state")
        check_state(state, self._fingerprints, allow_mismatch=allow_mismatch)
        epoch, step = int(state["epoch"]), int(state["step"])
        bound: BoundSampler = self._bound.inner if isinstance(self._bound, BoundResumed) else self._bound
        if isinstance(bound, ListSampler) and "batch_size" in state:
            bound, step = resume_at(bound, epoch, step * int(state["batch_size"]) + int(state["shift"]))
        if step >= num_batches_of(bound, epoch):  # another batch size, or a mismatch that made the epoch shorter
            epoch, step = epoch + 1, 0
        check_ranks(bound, self._order.rank, self._order.world_size, epoch)
        self._supply.stop()
        self._order = self._order.with_bound(bound)
        self._epoch, self._step = epoch, step
        self._quarantine = from_state(state["quarantine"])

    def stats(self) -> LoaderStats:
        """Where the time went, over all batches delivered so far."""
        return self._stats

    def close(self) -> None:
        """Stop reading and release threads, slots and device memory. Delivered batches stay valid. An iterator that
        is not finished raises LoaderError when it is asked for more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._supply.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches(self) -> Iterator[Batch]:
        self._check_idle("iterate")
        self._is_iterating = True
        num_left = num_batches_of(self._bound, self._epoch) - self._step
        is_finished = False
        try:
            quarantine = {record.study for record in self._quarantine}
            limit = None if self._reads_past_epoch else num_left
            prefetcher = self._supply.batches(
                self._order, self._epoch, self._step, quarantine=quarantine, num_batches=limit
            )
            for _ in range(num_left):
                yield self._deliver(self._next_executed(prefetcher))
            is_finished = True
        finally:
            self._is_iterating = False
            if not (is_finished and self._reads_past_epoch):
                self._supply.stop()

    def _next_executed(self, prefetcher: Prefetcher) -> Executed:
        started = time.perf_counter()
        executed = next(prefetcher, None)
        if executed is None:
            raise LoaderError(
                f"the loader was closed before epoch {self._epoch} ended, at step {self._step} of "
                f"{num_batches_of(self._bound, self._epoch)}; "
                "leave the loop before closing it, or make a new Loader and load the state"
            )
        self._stats = self._stats + executed.stats + LoaderStats(wait_s=time.perf_counter() - started)
        return executed

    def _deliver(self, executed: Executed) -> Batch:
        """Count a batch as delivered and make it what the caller asked for."""
        for record in executed.read.replaced:
            self._quarantine.append(record)
            warnings.warn(
                f"study {record.study} is damaged and was replaced by {record.substitute} (on_corrupt='replace'): "
                f"{record.message}",
                DamagedStudyWarning,
                stacklevel=3,  # the caller's loop
            )
        is_last = self._step + 1 == num_batches_of(self._bound, self._epoch)
        self._epoch, self._step = (self._epoch + 1, 0) if is_last else (self._epoch, self._step + 1)
        return assemble_batch(
            executed, ids=self._ids, affines=self._affines, convert=self._convert, labels=self._labels
        )

    def _check_idle(self, verb: str) -> None:
        if self._is_closed:
            raise LoaderError(f"cannot {verb}: this loader is closed; make a new one and load the state into it")
        if self._is_iterating:
            raise LoaderError(
                f"cannot {verb}: an iterator over this loader is not finished; leave its loop, call its close(), or "
                "make a second Loader (two iterators over one would each get a part of the batches)"
            )
