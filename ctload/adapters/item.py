"""ItemReader: one study by its row -> one crop, for frameworks that ask for items and batch them on their own.

A Loader is faster: it reads ahead, decodes in threads and makes whole batches. This is for code that owns its data
loader and cannot give it up. Knows nothing of torch; what it draws is a pure function of (seed, epoch, row).
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctload.errors import LoaderError, SamplerError
from ctload.loading.batch import batch_affine
from ctload.loading.options import check_arrays, needs_of
from ctload.loading.reading import BatchReader, PendingBatch
from ctload.loading.slots import Slot
from ctload.pipeline.numba import open_numba
from ctload.pipeline.spec import Pipeline, PipelineSpec, in_stored_units
from ctload.planning.augment import Augment
from ctload.planning.crop import Crop, WholeVolume
from ctload.planning.drawing import draw_plan
from ctload.planning.plan import BatchPlan
from ctload.planning.window import HuWindow
from ctload.process import forkguard
from ctload.sampling.bound import Draw
from ctload.storage.manifest import Studies

_RAW = (HuWindow(-1000, 1000),)  # a plan needs a window, also where none is applied


@dataclass(frozen=True)
class StudyItem:
    """One crop of one study.

    Attributes:
        volume: (C, D, H, W) float32; in [0, 1] with windows, else HU (the unit of the study).
        affine: (4, 4) float64, voxel index (z, y, x) of `volume` -> RAS+ mm.
        study: Its id.
        row: Of the reader's Studies.
        labels: (D, H, W) int16 of each label map by its name.
    """

    volume: np.ndarray
    affine: np.ndarray
    study: str
    row: int
    labels: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class OneStudy:
    """A bound sampler whose step is a row: a batch is that study."""

    num_batches: int
    seed: int
    batch_size: int = 1
    fingerprint: str = ""

    def draw(self, epoch: int, step: int) -> Draw:
        return Draw(np.array([step], np.int64), "")

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        raise SamplerError(f"an item has no substitute; row {row} stays damaged")


class ItemReader:
    """Reads items. It may be pickled: the other process opens the store anew at its first item.

    Args:
        studies: Rows of a store.
        crop: Where in each volume; None is all of it, whatever its shape.
        windows: HuWindows, each a channel of the output; none for HU as they are.
        augment: Random changes; needs windows.
        channels, labels: Stored arrays, as of a Loader.
        seed: Of every random decision.

    Raises:
        LoaderError: augment without a window, or studies without a store.
        PlanError: A study that the crop does not fit, or without one of the arrays.
    """

    # Slots, and so no __dict__: MONAI's DataLoader follows every __dict__ in search of random state, and studies and
    # their store know each other.
    __slots__ = ("_augment", "_bound", "_channels", "_crop", "_labels", "_lock", "_opened", "_windows", "studies")

    def __init__(
        self,
        studies: Studies,
        *,
        crop: Crop | None,
        windows: Sequence[HuWindow],
        augment: Augment | None,
        channels: Sequence[str],
        labels: Sequence[str],
        seed: int,
    ) -> None:
        if not windows and (augment is not None or (crop is not None and crop.is_resizing)):
            raise LoaderError(
                "augment and crops that resize work on windowed volumes, and this reader has window=None; pass a "
                "HuWindow, or leave the changes to your own transforms"
            )
        if studies.store is None:
            raise LoaderError("these studies belong to no store; take them from open_store(path).studies or .where()")
        if crop is not None:
            crop.check(studies)
        check_arrays(studies, channels, labels)
        self.studies, self._crop = studies, crop or WholeVolume()
        self._windows, self._augment = tuple(windows), augment
        self._channels, self._labels = tuple(channels), tuple(labels)
        self._bound = OneStudy(len(studies), seed)
        self._opened: tuple[BatchReader, Pipeline] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("_opened", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._opened, self._lock = None, threading.Lock()

    def read(self, row: int, epoch: int = 0) -> StudyItem:
        """The item of a row.

        Raises:
            IndexError: No such row.
            ChecksumError: The study is damaged.
            MissingChunkError: A file of it is gone.
            ForkAfterOpenError: This process was forked after the store had been opened.
        """
        if not 0 <= row < len(self.studies):
            raise IndexError(f"row {row} is none of 0..{len(self.studies) - 1}")
        forkguard.check()  # a lock that was held in the parent would never open here
        plan = draw_plan(
            self._bound, self.studies, self._crop, self._windows or _RAW, self._augment, epoch=epoch, step=row
        )
        with self._lock:
            reader, pipeline = self._open()
        slot = self._slot_of(plan)
        pending = PendingBatch(plan, slot)
        reader.start(pending)
        reader.finish(pending)
        slot.begin_executing()
        volume, maps = self._execute(pipeline, slot, plan, row)
        return StudyItem(
            volume=volume,
            affine=batch_affine(self.studies.take([row]).affines, plan)[0],
            study=self.studies.table["study"][row].as_py(),
            row=row,
            labels={name: maps[at] for at, name in enumerate(self._labels)},
        )

    def _slot_of(self, plan: BatchPlan) -> Slot:
        """Memory of its own: the item may be read by another thread while the next one is."""
        num_arrays = len(self._channels) + len(self._labels)
        shape = (num_arrays, *plan.read_boxes()[1][0].tolist())
        slot = Slot(np.empty((1, int(np.prod(shape))), np.int16))
        slot.begin_reading([shape])
        return slot

    def _execute(self, pipeline: Pipeline, slot: Slot, plan: BatchPlan, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(C, D, H, W) float32 and (L, D, H, W) int16."""
        num_channels = len(self._channels)
        scale, offset = (float(self.studies.table[name][row].as_py()) for name in ("scale", "offset"))
        if not self._windows:
            stored = slot.voxels[0]
            volume = stored[:num_channels].astype(np.float32)
            if (scale, offset) != (1.0, 0.0):
                volume = volume * np.float32(scale) + np.float32(offset)
            return volume, stored[num_channels:]
        executed = in_stored_units(plan, np.array([[scale, offset]]))
        with self._lock:
            volume = pipeline.execute(slot.voxels, executed)[0]
            maps = pipeline.execute_labels(slot.voxels, executed)[0] if self._labels else np.empty((0,), np.int16)
        return volume, maps

    def _open(self) -> tuple[BatchReader, Pipeline]:
        if self._opened is None:
            reader = BatchReader(
                self.studies,
                channels=self._channels,
                labels=self._labels,
                bound=self._bound,
                crop=self._crop,
                on_corrupt="raise",
            )
            spec = PipelineSpec(
                max_batch=1,
                num_channels=len(self._channels),
                num_windows=max(len(self._windows), 1),
                num_labels=len(self._labels),
                num_threads=1,
                **needs_of(self.studies, self._augment or Augment(), self._crop),
            )
            self._opened = reader, open_numba(spec)
        return self._opened
