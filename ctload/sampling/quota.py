"""Quotas: relative weights and a batch size enter, the count of each stratum in any batch leaves, exactly.

All arithmetic is in whole numbers and fractions, so nothing drifts. Counts are given as cumulative functions of the
batch number: any batch is reached without those before it. This file knows nothing of studies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ctload.errors import SamplerError

MAX_PERIOD = 1 << 16  # batches after which counts must repeat, where three or more quotas are fractional


@dataclass(frozen=True)
class Quota:
    """How many studies of each stratum each batch takes.

    With q = batch_size * weight / (sum of weights) per batch:

    - A whole q is taken in every batch.
    - Exactly two fractional q (they add up to a whole number): the first takes floor(k q + c) in its first k
      batches, the second the rest. Over any n consecutive batches each differs from n q by less than 1.
    - Three or more fractional q: after any k batches from the start each differs from k q by at most
      1 - 1/(2m - 2) < 1, with m of them fractional (Tijdeman, "The chairman assignment problem", Discrete
      Mathematics 32 (1980) 323-330), so over any n consecutive batches by less than 2. Less than 1 over all windows
      is impossible in general.
    - In every case exact over each whole period: the fractions' least common denominator in batches.

    Attributes:
        names: Of the strata, ascending.
        per_batch: q of each stratum; they add up to batch_size.
        offset: c of the second rule, in units of 1 / (denominator of q); 0 <= offset < that denominator.
        table: (period + 1, S) int64 cumulative counts for the third rule, else None.
    """

    names: tuple[str, ...]
    per_batch: tuple[Fraction, ...]
    offset: int
    table: np.ndarray | None

    @property
    def period(self) -> int:
        """Batches after which the counts repeat."""
        return math.lcm(*(quota.denominator for quota in self.per_batch))

    def before(self, num_batches: int) -> tuple[int, ...]:
        """Studies of each stratum in the first `num_batches` batches."""
        if self.table is not None:
            periods, rest = divmod(num_batches, len(self.table) - 1)
            return tuple((periods * self.table[-1] + self.table[rest]).tolist())
        counts = [num_batches * quota.numerator // quota.denominator for quota in self.per_batch]
        uneven = [place for place, quota in enumerate(self.per_batch) if quota.denominator > 1]
        if uneven:
            first, second = uneven
            quota = self.per_batch[first]
            counts[first] = (num_batches * quota.numerator + self.offset) // quota.denominator
            counts[second] = num_batches * int(quota + self.per_batch[second]) - counts[first]
        return tuple(counts)

    def before_each(self, first: int, stop: int) -> np.ndarray:
        """(stop - first + 1, S) int64: what `before` gives for first, first + 1, ..., stop."""
        numbers = np.arange(first, stop + 1, dtype=np.int64)
        if self.table is not None:
            periods, rest = np.divmod(numbers, len(self.table) - 1)
            return periods[:, None] * self.table[-1] + self.table[rest]
        counts = [numbers * quota.numerator // quota.denominator for quota in self.per_batch]
        uneven = [place for place, quota in enumerate(self.per_batch) if quota.denominator > 1]
        if uneven:
            one, other = uneven
            quota = self.per_batch[one]
            counts[one] = (numbers * quota.numerator + self.offset) // quota.denominator
            counts[other] = numbers * int(quota + self.per_batch[other]) - counts[one]
        return np.stack(counts, axis=1)

    def at(self, number: int) -> tuple[int, ...]:
        """Studies of each stratum in batch `number` (from 0)."""
        return tuple(after - now for after, now in zip(self.before(number + 1), self.before(number), strict=True))

    @property
    def largest(self) -> tuple[int, ...]:
        """The most studies of each stratum that any batch takes."""
        if self.table is not None:
            return tuple(int(most) for most in np.diff(self.table, axis=0).max(axis=0))
        return tuple(math.ceil(quota) for quota in self.per_batch)


def make_quota(weights: Mapping[str, float], batch_size: int, key: int) -> Quota:
    """The quota of relative weights, 25 : 75 being 1 : 3. A stratum of weight 0 is left out.

    Args:
        weights: Of the strata by name; a float counts as the decimal number it prints as.
        batch_size: Studies per batch.
        key: Chooses the offset c of the second rule.

    Raises:
        SamplerError: No weight, a negative or meaningless one, or fractions whose period is too long.
    """
    exact = {name: weight for name, weight in exact_weights(weights).items() if weight}
    total = sum(exact.values())
    names = tuple(sorted(exact))
    per_batch = tuple(batch_size * exact[name] / total for name in names)
    uneven = [quota for quota in per_batch if quota.denominator > 1]
    if len(uneven) <= 2:
        return Quota(names, per_batch, key % uneven[0].denominator if uneven else 0, None)
    period = math.lcm(*(quota.denominator for quota in uneven))
    if period * len(uneven) > MAX_PERIOD:
        raise SamplerError(
            f"quotas {dict(weights)} at batch_size={batch_size} would repeat only after {period} batches, the limit "
            f"for {len(uneven)} fractional quotas is {MAX_PERIOD // len(uneven)}; round the weights to a few digits"
        )
    return Quota(names, per_batch, 0, _chairman_table(per_batch, period))


def exact_weights(weights: Mapping[str, float]) -> dict[str, Fraction]:
    """Weights as fractions.

    Raises:
        SamplerError: None at all, or one that is negative, not finite or not a number.
    """
    exact = {}
    for name, weight in weights.items():
        try:
            exact[str(name)] = Fraction(str(weight))
        except (ValueError, ZeroDivisionError):
            raise SamplerError(
                f"quota {name!r}: {weight!r} is no number; give relative weights such as 25 and 75"
            ) from None
        if exact[str(name)] < 0:
            raise SamplerError(f"quota {name!r}: {weight!r} is negative; give relative weights >= 0 such as 25 and 75")
    if not any(exact.values()):
        raise SamplerError(f"quotas {dict(weights)} leave nothing to draw; at least one weight must be > 0")
    return exact


def _chairman_table(per_batch: Sequence[Fraction], period: int) -> np.ndarray:
    """(period + 1, S) int64 cumulative counts: whole parts every batch, the fractions by Tijdeman's rule.

    The places left over per batch are handed out one by one. At place n, with shares w_j (adding up to 1) and x_j
    places given to j so far, j may chair when w_j n - x_j >= 1 / (2m - 2); of these the one whose deviation would
    first reach its bound does, the least (1 - 1 / (2m - 2) - w_j n + x_j) / w_j. Whole numbers: shares f_j / unit.
    """
    whole = [math.floor(quota) for quota in per_batch]
    shares = [int((quota - floor) * period) for quota, floor in zip(per_batch, whole, strict=True)]
    num_places = sum(shares) // period
    unit, m = sum(shares), sum(share > 0 for share in shares)
    given = [0] * len(shares)
    table = np.zeros((period + 1, len(shares)), np.int64)
    for batch in range(period):
        for place in range(batch * num_places + 1, (batch + 1) * num_places + 1):
            behind = [(2 * m - 2) * (share * place - x * unit) for share, x in zip(shares, given, strict=True)]
            able = [j for j, share in enumerate(shares) if share and behind[j] >= unit]
            chair = min(able, key=lambda j: Fraction((2 * m - 3) * unit - behind[j], shares[j]))
            given[chair] += 1
        table[batch + 1] = [(batch + 1) * floor + x for floor, x in zip(whole, given, strict=True)]
    return table
