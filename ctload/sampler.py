"""Samplers: which studies make up each batch, as data. Studies enter, a bound sampler leaves (see bound.py).

A sampler is a few numbers and names; `bind` holds them against the studies and refuses what cannot be drawn. This
file touches no voxel and knows nothing of ranks: a rank takes its slice of the global batch.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ctload.bound import BoundSampler, BoundSequential, BoundShuffle, Draw
from ctload.errors import SamplerError
from ctload.manifest import Studies

__all__ = ["BoundSampler", "Draw", "Sampler", "SequentialSampler", "ShuffleSampler"]


class Sampler(Protocol):
    """A rule of drawing, before it has met its studies."""

    @property
    def batch_size(self) -> int: ...

    def bind(self, studies: Studies) -> BoundSampler:
        """Hold the rule against the studies.

        Raises:
            SamplerError: A batch cannot be drawn as asked; the message names the way out.
        """
        ...


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
        raise SamplerError(f"batch_size must be a whole number >= 1 (studies over all ranks), got {batch_size!r}")


def _num_batches(eligible: int, batch_size: int, *, what: str) -> int:
    if eligible < batch_size:
        raise SamplerError(
            f"batch_size={batch_size} is larger than the {eligible} {what}; take a smaller batch_size or more studies"
        )
    return eligible // batch_size


@dataclass(frozen=True)
class SequentialSampler:
    """Every study in its own order, the same every epoch: for embedding and evaluation.

    Args:
        batch_size: Studies per batch, over all ranks.
        drop_last: Whether studies after the last whole batch are left out; otherwise they make a short batch.
    """

    batch_size: int
    drop_last: bool = True

    def __post_init__(self) -> None:
        _check_batch_size(self.batch_size)

    def bind(self, studies: Studies) -> BoundSampler:
        num_studies = len(studies)
        if self.drop_last:
            num_batches = _num_batches(num_studies, self.batch_size, what="studies (or pass drop_last=False)")
        else:
            num_batches = -(-num_studies // self.batch_size)
        return BoundSequential(studies, repr(self), self.batch_size, num_batches)


@dataclass(frozen=True)
class ShuffleSampler:
    """Every study at most once per epoch, in an order drawn anew each epoch; all of them where batch_size divides.

    Args:
        batch_size: Studies per batch, over all ranks.
        seed: Of the order, and of the crops and augmentations drawn with it.
    """

    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        _check_batch_size(self.batch_size)

    def bind(self, studies: Studies) -> BoundSampler:
        rows = np.arange(len(studies), dtype=np.int64)
        num_batches = _num_batches(len(rows), self.batch_size, what="studies")
        return BoundShuffle(studies, repr(self), rows, self.batch_size, num_batches, self.seed)
