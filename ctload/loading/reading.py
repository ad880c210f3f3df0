"""BatchReader: reads the boxes of a plan into a slot, and puts other studies in the place of damaged ones if asked.

Enter plans and slots; leaves a slot full of stored voxels with the plan that it now matches. It knows nothing of
pipelines or threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ctload.errors import ChecksumError, CtloadError, LoaderError, MissingChunkError, PlanError, SamplerError
from ctload.geometry import Box
from ctload.loading.quarantine import Replaced
from ctload.loading.slots import Slot
from ctload.planning.crop import Boxes, Crop
from ctload.planning.drawing import generator
from ctload.planning.plan import BatchPlan
from ctload.sampling.bound import BoundSampler
from ctload.storage.layout import LABEL_PREFIX
from ctload.storage.manifest import Studies
from ctload.storage.read_probe import ReadCost, ReadProbe

PROBED_EVERY = 128  # batches; before that in batches 0, 1, 2, 4, 8, ...
DAMAGE = (ChecksumError, MissingChunkError)
"""What on_corrupt="replace" replaces. Any other error is raised: it is no property of one study."""


@dataclass(frozen=True)
class ReadBatch:
    """A batch whose voxels lie in its slot.

    Attributes:
        plan: With the rows and boxes that were read in the end.
        replaced: Studies found damaged in this batch, for the quarantine.
        num_replaced: Places of this batch that hold a substitute, of a study known before included.
    """

    plan: BatchPlan
    replaced: tuple[Replaced, ...]
    num_replaced: int


class BatchReader:
    """Starts and finishes the reads of batches.

    Args:
        studies: What the rows of plans count; of one store.
        channels: Names of the stored arrays, in the order of the slot's channels.
        labels: Names of the label maps, which come after them.
        bound: Names substitutes.
        crop: Draws the box of a substitute.
        on_corrupt: "raise" or "replace".
        probe: Measures now and then what a read is made of; None for not at all.

    Raises:
        LoaderError: The studies belong to no store.
    """

    def __init__(
        self,
        studies: Studies,
        *,
        channels: Sequence[str],
        labels: Sequence[str] = (),
        bound: BoundSampler,
        crop: Crop,
        on_corrupt: str,
        probe: ReadProbe | None = None,
    ) -> None:
        if studies.store is None:
            raise LoaderError("these studies belong to no store; take them from open_store(path).studies or .where()")
        self._store = studies.store
        self._studies = studies
        self._ids = studies.table["study"]
        self._num_channels = len(channels)
        self._arrays = (*channels, *(f"{LABEL_PREFIX}{name}" for name in labels))
        self.bound = bound
        self._crop = crop
        self._on_corrupt = on_corrupt
        self._probe = probe
        self._num_started = 0
        stored = pc.SetLookupOptions(self._store.studies.table["study"].combine_chunks())
        self._store_rows = pc.call_function("index_in", [self._ids], stored).to_numpy().astype(np.int64)
        self.quarantine: set[str] = set()
        """Ids of studies known to be damaged: with on_corrupt="replace" they are replaced without being read."""

    def start(self, pending: "PendingBatch") -> None:
        """Begin to read every box of a batch."""
        starts, _ = pending.plan.read_boxes()
        if self._probe is not None and is_probed(self._num_started):
            pending.cost = self._measure_first(self._probe, pending, starts[0])
        self._num_started += 1
        for at in range(pending.plan.batch_size):
            pending.reads.append(self._start_study(pending.plan, at, starts[at], pending.slot.voxels[at]))

    def finish(self, pending: "PendingBatch") -> ReadBatch:
        """Wait for every read of a batch.

        Raises:
            ChecksumError: A study is damaged, and on_corrupt="raise".
            MissingChunkError: A file of it is gone, and on_corrupt="raise".
            SamplerError: No readable study is left to take its place.
        """
        try:
            return self._finish(pending)
        except BaseException:
            pending.wait()
            raise

    def _finish(self, pending: "PendingBatch") -> ReadBatch:
        plan, records, num_replaced = pending.plan, [], 0
        for at, reads in enumerate(pending.reads):
            study = self._ids[int(plan.rows[at])].as_py()
            error = _wait(reads)
            if error is None:
                continue
            if self._on_corrupt == "raise" or not isinstance(error, DAMAGE):
                raise error
            num_replaced += 1
            plan = self._replace(plan, at, pending.slot)
            if study not in self.quarantine:
                self.quarantine.add(study)
                substitute = self._ids[int(plan.rows[at])].as_py()
                records.append(Replaced(study, substitute, plan.epoch, plan.step, type(error).__name__, str(error)))
        self._check_labels(plan, pending.slot.voxels)
        return ReadBatch(plan, tuple(records), num_replaced)

    def _check_labels(self, plan: BatchPlan, voxels: Sequence[np.ndarray]) -> None:
        """Refuse label maps that int16 cannot hold: values above 32767 are negative in it.

        Raises:
            PlanError: There is one.
        """
        for at, arrays in enumerate(voxels):
            for number in range(self._num_channels, len(self._arrays)):
                if arrays[number].min(initial=0) < 0:
                    raise PlanError(
                        f"{self._arrays[number]} has values above 32767, which batches of int16 cannot hold; number "
                        "its labels from 1 and pack again",
                        study=self._ids[int(plan.rows[at])].as_py(),
                    )

    def _start_study(self, plan: BatchPlan, at: int, start: np.ndarray, out: np.ndarray) -> list[Any]:
        """The reads of one study, one per array; an error that came at once stands in the place of a read."""
        row = int(plan.rows[at])
        if self._on_corrupt == "replace" and self._ids[row].as_py() in self.quarantine:
            return [ChecksumError("in quarantine, so it was not read", study=self._ids[row].as_py())]
        box = box_at(start, out.shape[1:])
        reads: list[Any] = []
        for channel, array in enumerate(self._arrays):
            try:
                reads.append(self._store.start_read(int(self._store_rows[row]), box, out[channel], array=array))
            except CtloadError as error:
                reads.append(error)
        return reads

    def _measure_first(self, probe: ReadProbe, pending: "PendingBatch", start: np.ndarray) -> ReadCost | None:
        """What the read of the batch's first study is made of; None where it fails, as the read itself will tell."""
        row, out = int(pending.plan.rows[0]), pending.slot.voxels[0]
        if self._ids[row].as_py() in self.quarantine:
            return None
        try:
            box = box_at(start, out.shape[1:])
            return self._store.probe_read(probe, int(self._store_rows[row]), box, out[0], array=self._arrays[0])
        except (CtloadError, OSError):
            return None

    def _replace(self, plan: BatchPlan, at: int, slot: Slot) -> BatchPlan:
        """Read the first substitute that can be read into place `at`, and give the plan with it."""
        damaged = int(plan.rows[at])
        for attempt in range(len(self._ids)):
            where = {"epoch": plan.epoch, "step": plan.step}
            row = self.bound.substitute(damaged, plan.unit, attempt=attempt, **where)
            tried = self._with_substitute(plan, at, row)
            start, shape = (values[at] for values in tried.read_boxes())
            out = slot.place(at, (slot.voxels[at].shape[0], *shape.tolist()))
            error = _wait(self._start_study(tried, at, start, out))
            if error is None:
                return tried
            if not isinstance(error, DAMAGE):
                raise error
        raise SamplerError(
            f"none of {len(self._ids)} studies could take its place; `ctload verify` lists the damage",
            study=self._ids[damaged].as_py(),
        )

    def _with_substitute(self, plan: BatchPlan, at: int, row: int) -> BatchPlan:
        """The plan with `row` in place `at`.

        The boxes of a substitute are drawn from a generator of their own, keyed by the step and the two rows, so they
        depend on neither rank nor place.
        """

        def of_view(view: int) -> np.random.Generator:
            kind = f"substitute of row {int(plan.rows[at])}: {row}" + (f", view {view}" if view else "")
            return generator(self.bound.seed, plan.epoch, plan.step, kind)

        boxes = self._crop.draw(self._studies, np.array([row]), of_view, len(plan.views))
        views = [_with_box(view, at, row, box) for view, box in zip(plan.views, boxes, strict=True)]
        return replace(views[0], other_views=tuple(views[1:]))


def is_probed(number: int) -> bool:
    """Whether a batch, counted from 0, has a read that is measured by steps."""
    return number & (number - 1) == 0 or number % PROBED_EVERY == 0


def _with_box(plan: BatchPlan, at: int, row: int, box: Boxes) -> BatchPlan:
    """One view's plan with another row and box in place `at`."""
    changed = {"rows": (plan.rows, np.array([row]))}
    for name, values in (("box_start", box.start), ("box_shape", box.shape), ("zoom", box.zoom)):
        if values is not None:
            changed[name] = (getattr(plan, name), values)
    replaced = {}
    for name, (old, new) in changed.items():
        replaced[name] = old.copy()
        replaced[name][at] = new[0]
    return replace(plan, **replaced)


def box_at(start: np.ndarray, shape: tuple[int, ...]) -> Box:
    """The box of `shape` (D, H, W) whose first voxel is `start` (3,)."""
    z, y, x = (int(edge) for edge in start)
    return Box((z, y, x), (z + shape[0], y + shape[1], x + shape[2]))


class PendingBatch:
    """Reads into a slot. The slot is theirs until `wait`, or BatchReader.finish, returned.

    Attributes:
        plan: What is read.
        slot: Where to.
        reads: Of every study, one per array; an error that came at once stands in the place of a read.
        cost: What reading its first study is made of, where that was measured.
    """

    def __init__(self, plan: BatchPlan, slot: Slot) -> None:
        self.plan = plan
        self.slot = slot
        self.reads: list[list[Any]] = []
        self.cost: ReadCost | None = None

    def wait(self) -> None:
        """Wait until no read writes any more, whatever came of it."""
        for reads in self.reads:
            _wait(reads)


def _wait(reads: list[Any]) -> CtloadError | None:
    """Wait for all reads of a study; the first error, if any."""
    first: CtloadError | None = None
    for read in reads:
        if isinstance(read, CtloadError):
            first = first or read
            continue
        try:
            read.result()
        except CtloadError as error:
            first = first or error
    return first
