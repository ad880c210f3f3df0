"""The shuffled twin of a sampler: the same studies as often for the same text units, in random batches.

A stratified arm changes two things against random batches: how often a study comes, and what stands beside it. The
twin changes only the first, so arm minus twin is the effect of the batch's composition, and twin minus random the
effect of the reweighting. This file knows nothing of columns or quotas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ctload.errors import SamplerError
from ctload.sampling.bound import BoundSampler, BoundStrata, Draw, check_step, next_member, sampler_fingerprint
from ctload.sampling.draw import derive_key, permute_range, spread_repeats
from ctload.sampling.sampler import ShuffleSampler, StratifiedSampler
from ctload.storage.manifest import Studies


@dataclass(frozen=True)
class ShuffledTwin:
    """Draws exactly what `sampler` draws, permuted across the batches of each text unit.

    Rules:
        1. Every step has the text unit it has in the arm.
        2. For each unit, the multiset of studies over a span of `span_epochs` epochs is the arm's; spans are counted
           from epoch 0. A run should end at a span's edge for the totals to be equal.
        3. Inside a span the draws of a unit stand in keyed random order, so a batch's share of each stratum is
           random. A study that would come twice in one batch is swapped into another batch of the unit where one can
           take it.

    A span is drawn at once, at its first step, and kept: 0.4 to 0.7 s for a million studies.

    Args:
        sampler: The arm, a StratifiedSampler or a ShuffleSampler with units.
        span_epochs: Epochs over which draws are mixed. Take more where an epoch has few batches of a unit: with one
            batch of a unit per span the twin's batch is the arm's.

    Raises:
        SamplerError: span_epochs < 1, or a sampler that draws no strata.
    """

    sampler: StratifiedSampler | ShuffleSampler
    span_epochs: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.span_epochs, bool) or int(self.span_epochs) != self.span_epochs or self.span_epochs < 1:
            raise SamplerError(f"span_epochs must be a whole number >= 1, got {self.span_epochs!r}")

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    def bind(self, studies: Studies) -> BoundSampler:
        arm = self.sampler.bind(studies)
        if not isinstance(arm, BoundStrata):
            raise SamplerError(
                f"{type(self.sampler).__name__} without units draws random batches already and has no twin; "
                "give a StratifiedSampler, or units"
            )
        return BoundTwin(arm, self.span_epochs)


@dataclass(frozen=True)
class BoundTwin:
    """A twin that has met its studies. `kept` holds the two spans drawn last, because a loader reads ahead into the
    next while it may need the one before; a draw does not depend on it.
    """

    arm: BoundStrata
    span_epochs: int
    kept: dict[int, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def batch_size(self) -> int:
        return self.arm.batch_size

    @property
    def num_batches(self) -> int:
        return self.arm.num_batches

    @property
    def seed(self) -> int:
        return self.arm.seed

    @property
    def fingerprint(self) -> str:
        return sampler_fingerprint(self.arm.studies, f"twin over {self.span_epochs} of {self.arm.description}")

    def draw(self, epoch: int, step: int) -> Draw:
        check_step(epoch, step, self.num_batches)
        span, epoch_of_span = divmod(epoch, self.span_epochs)
        batches = self.kept.get(span)
        if batches is None:
            batches = self.kept[span] = self._draw_span(span)
            for old in [number for number in list(self.kept) if abs(number - span) > 1]:
                self.kept.pop(old, None)
        rows = batches[epoch_of_span * self.num_batches + step]
        return Draw(rows.copy(), self.arm.unit_step(epoch, step).unit)

    def substitute(self, row: int, unit: str, *, epoch: int, step: int, attempt: int) -> int:
        key, batch = derive_key(self.seed, "substitute", epoch, step), self.draw(epoch, step).rows
        return next_member(self.arm.units[unit].stratum_of(row).rows, row, key, attempt, batch=batch)

    def _draw_span(self, span: int) -> np.ndarray:
        """(span_epochs * num_batches, B) int64 rows."""
        first = span * self.span_epochs
        batches = np.empty((self.span_epochs * self.num_batches, self.batch_size), np.int64)
        places: dict[str, list[int]] = {}
        first_of: dict[str, int] = {}
        for place in range(len(batches)):
            epoch, step = divmod(place, self.num_batches)
            unit, num_before = self.arm.unit_step(first + epoch, step)
            first_of.setdefault(unit, num_before)
            places.setdefault(unit, []).append(place)
        for unit, of_unit in places.items():  # the unit's batches follow one another, whatever stands between them
            batches[of_unit] = self.arm.units[unit].draw_many(first_of[unit], len(of_unit))
        _mix_units(batches, places, self.seed, span)
        return batches


def _mix_units(batches: np.ndarray, places: Mapping[str, list[int]], seed: int, span: int) -> None:
    """Permute the rows of each unit's batches among them, in place."""
    for unit, of_unit in places.items():
        drawn = batches[of_unit]
        order = np.empty(drawn.size, np.int64)
        permute_range(order, 0, drawn.size, derive_key(seed, "twin", unit, span))
        mixed = drawn.ravel()[order].reshape(drawn.shape)
        spread_repeats(mixed)
        batches[of_unit] = mixed
