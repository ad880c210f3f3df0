"""Differences between arms with both sources of variance: other patients, and other seeds.

Enters: one macro score per seed, and under each bootstrap draw of patients. Leaves: effects with intervals, p values
and what difference the study could have seen. It knows no finding and no file.

A difference over S paired seeds has variance var_seeds / S + var_patients: the first from the spread of the paired
differences, the second from the bootstrap of patients of their mean. Patients' noise within a seed counts in both, so
intervals are a little wide. Degrees of freedom by Satterthwaite (1946), "An approximate distribution of estimates of
variance components".
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ctclip.evaluation.statistics import holm

POWER = 0.8
_MAX_FLIPS = 14  # seeds up to which all sign flips are counted


@dataclass(frozen=True)
class ArmScores:
    """One metric of one arm.

    Attributes:
        values: (S,) by seed, on the test patients.
        draws: (S, R) under bootstrap draws of patients, the same draws for all arms and seeds.
        num_patients: Patients of the test split.
    """

    values: np.ndarray
    draws: np.ndarray
    num_patients: int


@dataclass(frozen=True)
class Effect:
    """The difference of two arms, A - B.

    Attributes:
        value: Mean over seeds.
        low, high: 95 % interval by t with both variances.
        boot_low, boot_high: Percentile interval of a bootstrap over patients and seeds together.
        sd_seeds: Standard deviation of the paired differences over seeds.
        se_patients: Standard error from the patients.
        se, df: Of both.
        p: Two-sided, by t.
        p_flips: Exact permutation p: the arms of each seed swapped in all ways. It cannot be below 2 / 2^S.
        p_holm: p corrected over the effects that were tested together; NaN before `correct`.
        detectable: Smallest true difference that such a study finds with a power of 80 % at 5 %.
    """

    value: float
    low: float
    high: float
    boot_low: float
    boot_high: float
    sd_seeds: float
    se_patients: float
    se: float
    df: float
    p: float
    p_flips: float
    detectable: float
    p_holm: float = math.nan


def paired_effect(a: ArmScores, b: ArmScores, *, level: float = 0.95, seed: int = 0) -> Effect:
    """The effect of A against B, seeds paired in their order.

    With one seed the seeds' variance is unknown: everything but `value` and the patients' part is NaN. A draw of
    patients without studies of one kind has no score and is left out.
    """
    differences, draws = a.values - b.values, a.draws - b.draws  # (S,), (S, R)
    draws = draws[:, ~np.isnan(draws).any(axis=0)]
    num = len(differences)
    value = float(differences.mean())
    if math.isnan(value) or draws.shape[1] < 2:
        return Effect(value, *[math.nan] * 11)
    var_patients = float(draws.mean(axis=0).var(ddof=1))
    boot = _two_way_bootstrap(draws, seed)
    low, high = np.quantile(boot, [(1 - level) / 2, (1 + level) / 2])
    if num < 2:
        nan = math.nan
        return Effect(value, nan, nan, nan, nan, nan, math.sqrt(var_patients), nan, nan, nan, nan, nan)
    var_seeds = float(differences.var(ddof=1)) / num
    se = math.sqrt(var_seeds + var_patients)
    df = _satterthwaite(var_seeds, num - 1, var_patients, a.num_patients - 1)
    reach = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Effect(
        value=value,
        low=value - reach,
        high=value + reach,
        boot_low=float(low),
        boot_high=float(high),
        sd_seeds=float(differences.std(ddof=1)),
        se_patients=math.sqrt(var_patients),
        se=se,
        df=df,
        p=float(2 * stats.t.sf(abs(value) / se, df)) if se > 0 else float(value == 0),
        p_flips=_sign_flips(differences),
        detectable=_detectable(se, df, level),
    )


def correct(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with Holm's correction over all of them."""
    corrected = holm([effect.p for effect in effects])
    return [Effect(**{**vars(effect), "p_holm": p}) for effect, p in zip(effects, corrected, strict=True)]


def detectable_from_pilot(pilot: ArmScores, *, num_seeds: int, level: float = 0.95) -> float:
    """Smallest difference between two arms that a grid can find, from the first seeds of one arm.

    As if seeds were not paired and patients' parts were independent: an upper bound, since pairing takes variance away.

    Args:
        pilot: At least two seeds of one arm.
        num_seeds: Of the grid.
        level: 1 - the level of the test.
    """
    if len(pilot.values) < 2:
        return math.nan
    var_seeds = 2 * float(pilot.values.var(ddof=1)) / num_seeds
    means = pilot.draws.mean(axis=0)
    var_patients = 2 * float(means[~np.isnan(means)].var(ddof=1))
    df = _satterthwaite(var_seeds, num_seeds - 1, var_patients, pilot.num_patients - 1)
    return _detectable(math.sqrt(var_seeds + var_patients), df, level)


def _two_way_bootstrap(draws: np.ndarray, seed: int) -> np.ndarray:
    """(R,) mean differences: in each draw of patients the seeds are drawn with replacement as well."""
    num, num_draws = draws.shape
    chosen = np.random.default_rng((seed, 2)).integers(num, size=(num, num_draws))
    return np.take_along_axis(draws, chosen, axis=0).mean(axis=0)


def _satterthwaite(var_a: float, df_a: int, var_b: float, df_b: int) -> float:
    below = var_a**2 / max(df_a, 1) + var_b**2 / max(df_b, 1)
    return (var_a + var_b) ** 2 / below if below > 0 else float(max(df_a, 1))


def _detectable(se: float, df: float, level: float) -> float:
    return se * float(stats.t.ppf((1 + level) / 2, df) + stats.t.ppf(POWER, df))


def _sign_flips(differences: np.ndarray) -> float:
    """Share of the sign patterns whose mean is at least as far from 0; drawn at random beyond 2^14 patterns."""
    num = len(differences)
    if num <= _MAX_FLIPS:
        signs = np.array(list(itertools.product((1, -1), repeat=num)))
        means = np.abs((signs * differences).mean(axis=1))
        return float((means >= abs(differences.mean()) - 1e-12).mean())
    signs = np.random.default_rng((num, 3)).choice((1, -1), size=(1 << _MAX_FLIPS, num))
    beyond = (np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12).sum()
    return float((beyond + 1) / (len(signs) + 1))
