"""SlotRing: the few blocks of memory that stored voxels are read into, over and over. Each slot holds one batch.

A slot goes round free -> reading -> executing -> free. Reads write into it while it is reading, a pipeline reads it
while it is executing, and nothing else may touch it; each step asserts the one before. Used by one thread.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

POISON = -32768
"""What a released slot holds when the ring poisons: outside every window, so that a late reader is seen."""


class Slot:
    """Memory of one batch.

    Attributes:
        voxels: Of each study (C, d, h, w) int16, C-contiguous, of the shape it was taken for.
        state: "free", "reading" or "executing".
    """

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory  # (B, n)
        self.voxels: list[np.ndarray] = []
        self.state = "free"

    def begin_reading(self, shapes: Sequence[tuple[int, ...]]) -> None:
        assert self.state == "free", f"a slot was taken while {self.state}"
        self.voxels = [memory[: math.prod(shape)].reshape(shape) for memory, shape in zip(self._memory, shapes)]  # noqa: B905 - a batch may be short
        self.state = "reading"

    def place(self, at: int, shape: tuple[int, ...]) -> np.ndarray:
        """The memory of study `at` in another shape, for a study that takes its place."""
        assert self.state == "reading", f"a slot was changed while {self.state}"
        self.voxels[at] = self._memory[at, : math.prod(shape)].reshape(shape)
        return self.voxels[at]

    def begin_executing(self) -> None:
        assert self.state == "reading", f"a slot was executed while {self.state}"
        self.state = "executing"

    def end(self, poison: bool) -> None:
        assert self.state != "free", "a slot was released twice"
        if poison:
            self._memory[:] = POISON
        self.state = "free"


class SlotRing:
    """All slots of a loader.

    Args:
        allocate: Gives (n,) int16 memory; a pipeline's own, which may be page-locked.
        num_slots: How many batches may be under way.
        max_batch: Studies of the largest batch.
        num_voxels: Of the largest study, all its arrays.
        poison: Whether to overwrite a slot when it is released: a debugging aid that finds what still reads it.
    """

    def __init__(
        self,
        allocate: Callable[[int], np.ndarray],
        *,
        num_slots: int,
        max_batch: int,
        num_voxels: int,
        poison: bool = False,
    ) -> None:
        self._slots = [Slot(allocate(max_batch * num_voxels).reshape(max_batch, num_voxels)) for _ in range(num_slots)]
        self._poison = poison

    @property
    def has_free(self) -> bool:
        return any(slot.state == "free" for slot in self._slots)

    @property
    def num_free(self) -> int:
        return sum(slot.state == "free" for slot in self._slots)

    def take(self, shapes: Sequence[tuple[int, ...]]) -> Slot:
        """A free slot with a (C, d, h, w) for each study, reading. Asked for only when `has_free`."""
        slot = next(slot for slot in self._slots if slot.state == "free")
        slot.begin_reading(shapes)
        return slot

    def release(self, slot: Slot) -> None:
        """Give a slot back, reading or executing, when nothing touches it any more."""
        slot.end(self._poison)
