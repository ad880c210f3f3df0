"""How sure a score is: resampling of patients, DeLong, permutation, and correction for many findings.

Numbers in, numbers out; it knows no finding, no model and no file. Whatever is drawn is drawn from (seed, draw
block), so the same seed gives two models the same draws, which is what makes a comparison paired.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

MAX_UNDEFINED_SHARE = 0.2  # more undefined draws than this flag an interval
_BLOCK = 100  # draws made and scored together, bounds the memory


@dataclass(frozen=True)
class Interval:
    """A score with its percentile interval. NaN where undefined.

    Attributes:
        value: On the studies themselves.
        low: Lower percentile of the draws.
        high: Upper percentile.
        num_draws: Draws in which the score was defined.
        is_flagged: More than a fifth of the draws were undefined: do not trust the interval.
    """

    value: float
    low: float
    high: float
    num_draws: int
    is_flagged: bool

    def as_dict(self) -> dict[str, float | int | bool | None]:
        """For JSON: NaN becomes None."""
        ends = {name: none_if_nan(getattr(self, name)) for name in ("value", "low", "high")}
        return {**ends, "num_draws": self.num_draws, "is_flagged": self.is_flagged}


@dataclass(frozen=True)
class Difference:
    """A paired difference A - B with its interval and a two-sided p value."""

    value: float
    low: float
    high: float
    p: float
    num_draws: int

    def as_dict(self) -> dict[str, float | int | None]:
        numbers = {name: none_if_nan(getattr(self, name)) for name in ("value", "low", "high", "p")}
        return {**numbers, "num_draws": self.num_draws}


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def draw_counts(patients: Sequence[str], *, num_draws: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap of patients: how often each study counts in each draw, in blocks of draws.

    Patients are drawn with replacement, and all studies of a drawn patient come along (cluster bootstrap). A block
    depends on (seed, its number) alone.

    Yields:
        (up to 100, N) float32 counts; `num_draws` rows in all.
    """
    _, patient_of_study = np.unique(np.asarray(patients), return_inverse=True)
    num_patients = int(patient_of_study.max()) + 1
    for block, start in enumerate(range(0, num_draws, _BLOCK)):
        rows = min(_BLOCK, num_draws - start)
        drawn = np.random.default_rng((seed, block)).integers(num_patients, size=(rows, num_patients))
        flat = drawn + np.arange(rows)[:, None] * num_patients
        counts = np.bincount(flat.ravel(), minlength=rows * num_patients).reshape(rows, num_patients)
        yield counts.astype(np.float32)[:, patient_of_study]


def percentile_interval(value: float, draws: np.ndarray, *, level: float = 0.95) -> Interval:
    """Percentile interval of draws (R,), by linear interpolation; undefined draws are left out and counted."""
    defined = draws[~np.isnan(draws)]
    if math.isnan(value) or len(defined) == 0:
        return Interval(math.nan, math.nan, math.nan, len(defined), True)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    is_flagged = len(defined) < (1 - MAX_UNDEFINED_SHARE) * len(draws)
    return Interval(float(value), float(low), float(high), len(defined), is_flagged)


def paired_difference(
    a: float, b: float, draws_a: np.ndarray, draws_b: np.ndarray, *, level: float = 0.95
) -> Difference:
    """Difference of two scores from draws (R,) made with the same counts.

    p = 2 min(share of differences <= 0, share >= 0) with (c + 1) / (R + 1), at most 1.
    """
    draws = draws_a - draws_b
    draws = draws[~np.isnan(draws)]
    if math.isnan(a) or math.isnan(b) or len(draws) == 0:
        return Difference(math.nan, math.nan, math.nan, math.nan, len(draws))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return Difference(a - b, float(low), float(high), two_sided(int(tail), len(draws)), len(draws))


def two_sided(num_beyond: int, num_draws: int) -> float:
    """Two-sided p value of a count in one tail, with the +1 that keeps it above zero."""
    return min(1.0, 2 * (num_beyond + 1) / (num_draws + 1))


@dataclass(frozen=True)
class DeLong:
    """Two correlated AUROCs: their values, the variance of the difference, z and the two-sided p."""

    auroc_a: float
    auroc_b: float
    variance: float
    z: float
    p: float


def delong(labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray) -> DeLong:
    """DeLong's test of two AUROCs on the same studies (DeLong, DeLong and Clarke-Pearson 1988).

    Structural components by mid-ranks (Sun and Xu 2014). Treats studies as independent: with several studies per
    patient, use the paired bootstrap. Identical scores have p = 1; one class only gives NaN.

    Args:
        labels: (N,) of 0 and 1.
        scores_a: (N,) of one model.
        scores_b: (N,) of the other.
    """
    positive, negative = labels == 1, labels == 0
    if not positive.any() or not negative.any():
        return DeLong(math.nan, math.nan, math.nan, math.nan, math.nan)
    components = [_structural_components(scores, positive, negative) for scores in (scores_a, scores_b)]
    a, b = (float(over_positives.mean()) for over_positives, _ in components)
    variance = sum(
        _variance_of_difference(components[0][side], components[1][side]) / len(components[0][side]) for side in (0, 1)
    )
    if variance <= 0:
        z = 0.0 if a == b else math.copysign(math.inf, a - b)
        return DeLong(a, b, 0.0, z, 1.0 if a == b else 0.0)
    z = (a - b) / math.sqrt(variance)
    return DeLong(a, b, float(variance), z, math.erfc(abs(z) / math.sqrt(2)))


def permutation_test(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    patients: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    *,
    num_draws: int = 1000,
    seed: int = 0,
) -> float:
    """Two-sided p of statistic(A) - statistic(B) when each patient's scores are swapped with probability 1/2.

    Scores are turned into ranks first, so that two models of different scales can be swapped.

    Args:
        scores_a: (N,) of one model.
        scores_b: (N,) of the other.
        patients: (N,) ids; all studies of a patient are swapped together.
        statistic: Of (N,) ranks.
        num_draws: Permutations.
        seed: Of the swaps.
    """
    ranks = [stats.rankdata(scores) for scores in (scores_a, scores_b)]
    _, patient_of_study = np.unique(np.asarray(patients), return_inverse=True)
    observed = abs(statistic(ranks[0]) - statistic(ranks[1]))
    rng = np.random.default_rng((seed, 1))
    num_beyond = 0
    for _ in range(num_draws):
        swap = rng.integers(2, size=int(patient_of_study.max()) + 1).astype(bool)[patient_of_study]
        a, b = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        num_beyond += abs(statistic(a) - statistic(b)) >= observed - 1e-12
    return (num_beyond + 1) / (num_draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a test."""
    p = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * (len(order) - np.arange(len(order)))
    corrected = p.copy()
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised)) if len(order) else raised
    return corrected.tolist()


@dataclass(frozen=True)
class Runs:
    """Scores of several seeds: mean, sd (ddof 1) and the interval of the mean by Student's t."""

    mean: float
    sd: float
    low: float
    high: float
    num: int


def over_seeds(values: Sequence[float], *, level: float = 0.95) -> Runs:
    """Mean over seeds with its t interval; sd and interval are NaN for fewer than two seeds."""
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        mean = float(data.mean()) if len(data) else math.nan
        return Runs(mean, math.nan, math.nan, math.nan, len(data))
    mean, sd = float(data.mean()), float(data.std(ddof=1))
    reach = float(stats.t.ppf((1 + level) / 2, len(data) - 1)) * sd / math.sqrt(len(data))
    return Runs(mean, sd, mean - reach, mean + reach, len(data))


def seed_test(a: Sequence[float], b: Sequence[float], *, paired: bool) -> float:
    """p of a difference between two settings over seeds: paired t when seeds are shared, else Welch's t.

    NaN for fewer than two seeds; 1 when all differences are 0.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or len(y) < 2:
        return math.nan
    if paired:
        differences = x - y
        if np.ptp(differences) == 0:
            return 1.0 if differences[0] == 0 else 0.0
        t = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences)))
        return float(2 * stats.t.sf(abs(t), len(differences) - 1))
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return 1.0 if x[0] == y[0] else 0.0
    return float(np.asarray(stats.ttest_ind(x, y, equal_var=False))[1])


def _structural_components(
    scores: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(for each positive, the share of negatives below it; for each negative, the share of positives above it)."""
    pooled = stats.rankdata(scores)
    num_positive, num_negative = positive.sum(), negative.sum()
    over_positives = (pooled[positive] - stats.rankdata(scores[positive])) / num_negative
    over_negatives = 1 - (pooled[negative] - stats.rankdata(scores[negative])) / num_positive
    return over_positives, over_negatives


def _variance_of_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.var(a - b, ddof=1)) if len(a) > 1 else 0.0
