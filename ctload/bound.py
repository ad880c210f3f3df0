"""Bound samplers: a sampler that has met its studies. (epoch, step) enters, the rows of one batch leave.

Every draw is a pure function of (seed, epoch, step): nothing is remembered between calls and no array as long as
the studies is made for an epoch. This file knows nothing of columns, labels or voxels.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xxhash

from ctload.draw import derive_key, permute, permute_inverse, permute_range
from ctload.errors import SamplerError
from ctload.manifest import Studies


@dataclass(frozen=True)
class Draw:
    """The studies of one global batch.

    Attributes:
        rows: (B,) int64, rows of the Studies the sampler was bound to.
        unit: The text unit; "" where there is none.
    """

    rows: np.ndarray
    unit: str


class BoundSampler(Protocol):
    """What a loader needs of a sampler.

    Attributes:
        batch_size: Studies per global batch.
        num_batches: Batches per epoch.
        seed: Of every random decision; crops and augmentations use it too.
        fingerprint: Covers the studies and every field of the sampler.
    """

    @property
    def batch_size(self) -> int: ...
    @property
    def num_batches(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...

    def draw(self, epoch: int, step: int) -> Draw:
        """The batch of a step, 0 <= step < num_batches.

        Raises:
            SamplerError: A negative epoch, or a step out of range.
        """
        ...

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        """The `attempt`-th replacement (0, 1, ...) for a study that cannot be read: a member of its stratum.

        Attempts 0 .. members - 2 visit every other member of the stratum once, in an order keyed by the step.

        Raises:
            SamplerError: The stratum has no further member.
        """
        ...


def check_step(epoch: int, step: int, num_batches: int) -> None:
    """Refuse coordinates outside the run.

    Raises:
        SamplerError: epoch < 0 or step not in 0..num_batches-1.
    """
    if epoch < 0 or not 0 <= step < num_batches:
        raise SamplerError(
            f"epoch={epoch}, step={step} is no batch of this run: epochs start at 0 and an epoch has {num_batches} "
            f"batches, step 0..{num_batches - 1}; count on into the next epoch"
        )


def sampler_fingerprint(studies: Studies, description: str) -> str:
    """xxh3_128 over the studies' fingerprint and a sampler's description, in hex."""
    return xxhash.xxh3_128_hexdigest(f"{studies.fingerprint}|{description}".encode())


def next_member(members: np.ndarray, row: int, key: np.uint64, attempt: int) -> int:
    """The member `attempt` + 1 places after `row` in the keyed order of `members` (ascending rows).

    Raises:
        SamplerError: Every other member was tried.
    """
    n = len(members)
    if attempt >= n - 1:
        raise SamplerError(
            f"row {row} cannot be replaced: all {n - 1} other members of its stratum were tried; repair the store "
            "(`ctload verify` lists the damage)"
        )
    place = permute_inverse(int(np.searchsorted(members, row)), n, key)
    return int(members[permute((place + 1 + attempt) % n, n, key)])


@dataclass(frozen=True)
class BoundSequential:
    """Studies in their own order, the same every epoch."""

    studies: Studies
    description: str
    batch_size: int
    num_batches: int
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        start = step * self.batch_size
        return Draw(np.arange(start, min(start + self.batch_size, len(self.studies)), dtype=np.int64), "")

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key = derive_key(self.seed, "substitute", epoch, step)
        return next_member(np.arange(len(self.studies)), row, key, attempt)


@dataclass(frozen=True)
class BoundShuffle:
    """A keyed permutation of the eligible rows per epoch, evaluated where it is asked for.

    Attributes:
        rows: Eligible rows, ascending, int64.
    """

    studies: Studies
    description: str
    rows: np.ndarray
    batch_size: int
    num_batches: int
    seed: int

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        places = np.empty(self.batch_size, np.int64)
        permute_range(places, step * self.batch_size, len(self.rows), derive_key(self.seed, "shuffle", epoch))
        return Draw(self.rows[places], "")

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        return next_member(self.rows, row, derive_key(self.seed, "substitute", epoch, step), attempt)
