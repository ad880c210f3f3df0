"""Bound samplers: a sampler that has met its studies. (epoch, step) enters, the rows of one batch leave.

Every draw is a pure function of (seed, epoch, step): nothing is remembered between calls and no array as long as
the studies is made for an epoch. This file knows nothing of columns, labels or voxels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xxhash

from ctload.errors import SamplerError
from ctload.sampling.draw import derive_key, draw_rounds, permute, permute_inverse, permute_range
from ctload.sampling.quota import Quota
from ctload.sampling.strata import Stratum
from ctload.sampling.units import AlternatingUnits, UnitStep
from ctload.storage.manifest import Studies


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

        Attempts 0 .. members - 2 visit every other member of the stratum once, in an order keyed by the step, those
        that the batch holds already last.

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


def next_member(members: np.ndarray, row: int, key: np.uint64, attempt: int, *, batch: np.ndarray) -> int:
    """The `attempt`-th of the other members after `row` in their keyed order, those that `batch` holds last.

    Args:
        members: Ascending rows, `row` among them.
        row: What is replaced.
        key: Of the order.
        attempt: From 0.
        batch: Rows that would come twice in one batch.

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
    inside, last = set(batch.tolist()), []
    for distance in range(1, n):
        member = int(members[permute((place + distance) % n, n, key)])
        if member in inside:
            last.append(member)
        elif attempt == 0:
            return member
        else:
            attempt -= 1
    return last[attempt]


@dataclass(frozen=True)
class BoundSequential:
    """Studies in their own order, the same every epoch."""

    studies: Studies
    description: str
    batch_size: int
    num_batches: int
    seed: int = 0
    drop_last: bool = True

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    @property
    def members(self) -> np.ndarray:
        return np.arange(len(self.studies), dtype=np.int64)

    @property
    def num_listed(self) -> int:
        return len(self.studies)

    def draw_range(self, epoch: int, start: int, stop: int) -> Draw:
        """Places start..stop-1 of an epoch's list."""
        return Draw(np.arange(start, stop, dtype=np.int64), "")

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        start = step * self.batch_size
        return self.draw_range(epoch, start, min(start + self.batch_size, self.num_listed))

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.members, row, key, attempt, batch=batch)


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
    drop_last: bool = True

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    @property
    def members(self) -> np.ndarray:
        return self.rows

    @property
    def num_listed(self) -> int:
        return len(self.rows)

    def draw_range(self, epoch: int, start: int, stop: int) -> Draw:
        """Places start..stop-1 of an epoch's list."""
        places = np.empty(stop - start, np.int64)
        permute_range(places, start, len(self.rows), derive_key(self.seed, "shuffle", epoch))
        return Draw(self.rows[places], "")

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        return self.draw_range(epoch, step * self.batch_size, (step + 1) * self.batch_size)

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.rows, row, key, attempt, batch=batch)


@dataclass(frozen=True)
class UnitStrata:
    """The strata of one text unit and how its batches are filled from them.

    Each stratum is drawn in rounds without end: every member once per round, in an order keyed by the round. The
    place in the rounds follows from the number of the unit's batches so far, whatever the epoch.

    Attributes:
        unit: Its name; "" where there are no units.
        strata: In the quota's order.
        quota: Studies of each stratum per batch.
        keys: (S,) uint64, of each stratum's rounds.
    """

    unit: str
    strata: tuple[Stratum, ...]
    quota: Quota
    keys: np.ndarray

    def draw(self, number: int) -> np.ndarray:
        """(B,) rows of batch `number` of this unit, stratum after stratum."""
        drawn = []
        counts = zip(self.quota.before(number), self.quota.before(number + 1), self.quota.largest, strict=True)
        for stratum, key, (start, stop, window) in zip(self.strata, self.keys, counts, strict=True):
            places = np.empty(stop - start, np.int64)
            draw_rounds(places, np.empty(2 * window - 1, np.int64), start, len(stratum.rows), window, key)
            drawn.append(stratum.rows[places])
        return np.concatenate(drawn)

    def draw_many(self, first: int, num: int) -> np.ndarray:
        """(num, B) rows of the unit's batches first, first + 1, ..., each as `draw` gives it, in one go."""
        before = self.quota.before_each(first, first + num)
        counts = np.diff(before, axis=0)
        ends = np.cumsum(counts, axis=1)
        batches = np.empty((num, int(counts[0].sum())), np.int64)
        for at, (stratum, key, window) in enumerate(zip(self.strata, self.keys, self.quota.largest, strict=True)):
            places = np.empty(before[-1, at] - before[0, at], np.int64)
            draw_rounds(places, np.empty(2 * window - 1, np.int64), int(before[0, at]), len(stratum.rows), window, key)
            batch = np.repeat(np.arange(num), counts[:, at])
            number_in_batch = np.arange(len(places)) - (before[batch, at] - before[0, at])
            batches[batch, ends[batch, at] - counts[batch, at] + number_in_batch] = stratum.rows[places]
        return batches

    def stratum_of(self, row: int) -> Stratum:
        """The stratum that holds a row.

        Raises:
            SamplerError: None does.
        """
        for stratum in self.strata:
            place = int(np.searchsorted(stratum.rows, row))
            if place < len(stratum.rows) and stratum.rows[place] == row:
                return stratum
        raise SamplerError(
            f"row {row} belongs to no stratum of unit {self.unit!r}; only drawn studies have substitutes"
        )


@dataclass(frozen=True)
class BoundStrata:
    """Batches filled from strata by quota, one text unit per step.

    Attributes:
        units: The strata of each unit by its name; the one name is "" where there is no schedule.
        schedule: Which unit a step has; None where there are no units.
    """

    studies: Studies
    description: str
    units: Mapping[str, UnitStrata]
    schedule: AlternatingUnits | None
    batch_size: int
    num_batches: int
    seed: int

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.studies, self.description)

    def unit_step(self, epoch: int, step: int) -> UnitStep:
        """The unit of a step and how many batches of it came before, in all epochs."""
        global_step = epoch * self.num_batches + step
        return UnitStep("", global_step) if self.schedule is None else self.schedule.at(global_step, self.seed)

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        unit, num_before = self.unit_step(epoch, step)
        rows = self.units[unit].draw(num_before)
        # Ranks take contiguous slices: without this one rank would be all of one stratum.
        order = np.empty(len(rows), np.int64)
        permute_range(order, 0, len(rows), derive_key(self.seed, "order", epoch, step))
        return Draw(rows[order], unit)

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.units[unit].stratum_of(row).rows, row, key, attempt, batch=batch)
