"""Samplers: which studies make up each batch, as data. Studies enter, a bound sampler leaves (see bound.py).

A sampler is a few numbers and names; `bind` holds them against the studies and refuses what cannot be drawn. This
file touches no voxel and knows nothing of ranks: a rank takes its slice of the global batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ctload.errors import SamplerError
from ctload.sampling.bound import BoundSampler, BoundSequential, BoundShuffle, BoundStrata, Draw, UnitStrata
from ctload.sampling.draw import derive_key
from ctload.sampling.quota import Quota, exact_weights, make_quota
from ctload.sampling.strata import KNOWN, Stratum, known_rows, strata_of, unit_column
from ctload.sampling.units import AlternatingUnits
from ctload.storage.manifest import Studies

__all__ = ["BoundSampler", "Draw", "Sampler", "SequentialSampler", "ShuffleSampler", "StratifiedSampler"]


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


def check_numbers(batch_size: int, seed: int = 0) -> None:
    """Refuse a batch size or a seed that is none.

    Raises:
        SamplerError: It is none.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise SamplerError(f"batch_size must be a whole number >= 1 (studies over all ranks), got {batch_size!r}")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise SamplerError(f"seed must be a whole number, got {seed!r}")


def whole_batches(eligible: int, batch_size: int, *, way_out: str = "") -> int:
    """Batches of an epoch.

    Raises:
        SamplerError: Not even one.
    """
    if eligible < batch_size:
        raise SamplerError(
            f"batch_size={batch_size} is larger than the {eligible} studies that can be drawn; take a smaller "
            f"batch_size or more studies{way_out}"
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
        check_numbers(self.batch_size)

    def bind(self, studies: Studies) -> BoundSampler:
        num_studies = len(studies)
        if self.drop_last:
            num_batches = whole_batches(num_studies, self.batch_size, way_out=", or pass drop_last=False")
        else:
            num_batches = -(-num_studies // self.batch_size)
        return BoundSequential(studies, repr(self), self.batch_size, num_batches, drop_last=self.drop_last)


@dataclass(frozen=True)
class ShuffleSampler:
    """Studies in random order.

    Rules:
        1. Without units: an epoch is one permutation of the eligible studies, drawn anew each epoch. Each study comes
           at most once per epoch, and exactly once where batch_size divides their number.
        2. With units: the batches of each unit run through rounds of the unit's eligible studies, every study once
           per round; rounds run on across batches and epochs. No study comes twice in one batch where the unit has
           at least 3 * batch_size - 2 eligible studies; with fewer, a batch that spans two rounds may hold one twice.
        3. Eligible are the studies whose value in `by` is known (for units: in the unit's column), which is what a
           StratifiedSampler of the same `by` can draw from when its quotas name every known value; all, without `by`.
        4. An epoch has floor(studies eligible for at least one unit / batch_size) batches.

    Args:
        batch_size: Studies per batch, over all ranks.
        seed: Of the order, and of the crops and augmentations drawn with it.
        by: Column whose unknown studies (null, NaN, -1) are left out; with units, columns "by:unit".
        units: Which text unit a step has; None for none.
    """

    batch_size: int
    seed: int
    by: str | None = None
    units: AlternatingUnits | None = None

    def __post_init__(self) -> None:
        check_numbers(self.batch_size, self.seed)

    def bind(self, studies: Studies) -> BoundSampler:
        if self.units is None:
            rows = self._eligible(studies, "")
            return BoundShuffle(
                studies, repr(self), rows, self.batch_size, whole_batches(len(rows), self.batch_size), self.seed
            )
        quota = make_quota({KNOWN: 1}, self.batch_size, 0)
        units = {
            unit: _unit_strata(unit, (Stratum(KNOWN, self._eligible(studies, unit)),), quota, self.seed, "error")
            for unit in self.units.names
        }
        return _bind_strata(studies, repr(self), units, self.units, self.batch_size, self.seed)

    def _eligible(self, studies: Studies, unit: str) -> np.ndarray:
        if self.by is None:
            return np.arange(len(studies), dtype=np.int64)
        return known_rows(studies, unit_column(self.by, unit))


@dataclass(frozen=True)
class StratifiedSampler:
    """Batches with a fixed share of each stratum, for example 25 : 75 of normal to abnormal studies.

    Rules:
        1. Strata are the studies with one value in the column `by`; with units, in the column "by:unit" of the
           step's unit. A study whose value is unknown (null, NaN, -1) or not named in `quotas` is never drawn.
        2. Quotas are relative weights: 25 : 75 is 1 : 3. At batch_size B a stratum has q = B * weight / sum per
           batch. A whole q holds exactly in every batch. Where two are fractional, each one's count over any n
           consecutive batches of the unit differs from n * q by less than 1, and is exact over whole periods; for
           three or more see ctload/sampling/quota.py.
        3. Inside a round of a stratum no study comes twice; rounds run on across batches and epochs.
        4. No study comes twice in one batch where its stratum has at least 3 k - 2 members, k being the most studies
           of it that a batch takes. With k to 3 k - 3 members a batch that spans two rounds may hold a study twice.
        5. An epoch has floor(studies that can be drawn for at least one unit / batch_size) batches, whatever the
           quotas.
        6. The batch is permuted, so that each rank's slice is a random part of it.

    Args:
        by: Column, or prefix of the units' columns.
        quotas: Weight of each value; in a column of numbers "normal" means 0 and "abnormal" 1.
        batch_size: Studies per batch, over all ranks.
        seed: Of the order, and of the crops and augmentations drawn with it.
        units: Which text unit a step has; None for none.
        small_stratum: "error" refuses a stratum with fewer than k members; "repeat" lets its members come several
            times in one batch, as evenly as rounds give it.

    Example:
        >>> import pyarrow as pa
        >>> studies = Studies(pa.table({"study": ["a", "b", "c", "d"], "abnormal": [0, 1, 1, 1]}))
        >>> bound = StratifiedSampler("abnormal", {"normal": 25, "abnormal": 75}, batch_size=4, seed=0).bind(studies)
        >>> sorted(bound.draw(epoch=0, step=0).rows.tolist())
        [0, 1, 2, 3]
    """

    by: str
    quotas: Mapping[str, float]
    batch_size: int
    seed: int
    units: AlternatingUnits | None = None
    small_stratum: str = "error"

    def __post_init__(self) -> None:
        check_numbers(self.batch_size, self.seed)
        exact_weights(self.quotas)
        if self.small_stratum not in ("error", "repeat"):
            raise SamplerError(f"small_stratum must be 'error' or 'repeat', got {self.small_stratum!r}")

    def bind(self, studies: Studies) -> BoundSampler:
        units = {}
        for unit in self.units.names if self.units else ("",):
            quota = make_quota(self.quotas, self.batch_size, int(derive_key(self.seed, "quota", unit)))
            strata = strata_of(studies, unit_column(self.by, unit), quota.names)
            units[unit] = _unit_strata(unit, strata, quota, self.seed, self.small_stratum)
        return _bind_strata(studies, self._description(), units, self.units, self.batch_size, self.seed)

    def _description(self) -> str:
        """The fields, with equal quotas (1:3, 25:75, in any order) written alike."""
        exact = exact_weights(self.quotas)
        shares = {name: str(weight / sum(exact.values())) for name, weight in sorted(exact.items()) if weight}
        return repr(replace(self, quotas=shares))


def _unit_strata(unit: str, strata: tuple[Stratum, ...], quota: Quota, seed: int, small_stratum: str) -> UnitStrata:
    """Check that the strata can fill their quotas.

    Raises:
        SamplerError: A stratum with no member, or with fewer than a batch takes unless small_stratum is "repeat".
    """
    for stratum, count in zip(strata, quota.largest, strict=True):
        members = len(stratum.rows)
        if members == 0 or (members < count and small_stratum == "error"):
            where = f"unit {unit!r}, " if unit else ""
            repeat = "" if stratum.name == KNOWN else ", or pass StratifiedSampler(small_stratum='repeat')"
            raise SamplerError(
                f"{where}stratum {stratum.name!r} has {members} studies but a batch takes up to {count} of it; take a "
                f"smaller batch_size or quota, or leave the unit out{repeat}"
            )
    keys = np.array([derive_key(seed, "stratum", unit, stratum.name) for stratum in strata], np.uint64)
    return UnitStrata(unit, strata, quota, keys)


def _bind_strata(
    studies: Studies,
    description: str,
    units: Mapping[str, UnitStrata],
    schedule: AlternatingUnits | None,
    batch_size: int,
    seed: int,
) -> BoundStrata:
    eligible = np.zeros(len(studies), bool)
    for unit in units.values():
        for stratum in unit.strata:
            eligible[stratum.rows] = True
    num_batches = whole_batches(int(eligible.sum()), batch_size)
    return BoundStrata(studies, description, units, schedule, batch_size, num_batches, seed)
