"""The scaling curve: how the error of a score falls with the share of the data, as a power law.

error(n) = a * n^-b, error = 1 - score, fitted by least squares on logarithms over all seeds; its interval from
resampling patients and seeds. Form after Hestness et al. 2017, "Deep learning scaling is predictable, empirically"
(arXiv 1712.00409), without an irreducible error, which three fractions cannot tell apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctclip.errors import StudyError
from ctclip.study.effects import ArmScores


@dataclass(frozen=True)
class PowerLaw:
    """error(fraction) = a * fraction^-b.

    Attributes:
        a: Error with the whole data.
        b: Exponent; above 0 means that more data is better.
        b_low, b_high: 95 % interval of b over patients and seeds.
        residual: Largest distance of an arm's mean score from the curve.
    """

    a: float
    b: float
    b_low: float
    b_high: float
    residual: float

    def score(self, fraction: np.ndarray) -> np.ndarray:
        """The curve's score, in the units of the metric."""
        return 1 - self.a * np.asarray(fraction, np.float64) ** -self.b


def fit_power_law(arms: Mapping[float, ArmScores], *, seed: int = 0) -> PowerLaw:
    """Fit the curve to the arms of a data-scaling study.

    Args:
        arms: By fraction, all with the same seeds and draws.
        seed: Of the resampled seeds.

    Raises:
        StudyError: Fewer than three fractions, or a score of 1 or more, which has no logarithm of its error.
    """
    fractions = np.array(sorted(arms))
    if len(fractions) < 3:
        raise StudyError(f"a curve needs three fractions or more, got {fractions.tolist()}")
    values = np.stack([arms[fraction].values for fraction in fractions])  # (K, S)
    draws = np.stack([arms[fraction].draws for fraction in fractions])  # (K, S, R)
    if not (values < 1).all():
        raise StudyError("a score of 1 leaves no error to scale; take a harder test split")
    a, b = _fit(fractions, values)
    num_seeds, num_draws = draws.shape[1:]
    chosen = np.random.default_rng((seed, 4)).integers(num_seeds, size=(num_draws, num_seeds))
    exponents = [
        _fit(fractions, np.minimum(draws[:, chosen[number], number], 1 - 1e-6))[1] for number in range(num_draws)
    ]
    low, high = np.nanquantile(exponents, [0.025, 0.975])
    curve = PowerLaw(a, b, float(low), float(high), 0.0)
    residual = float(np.abs(values.mean(axis=1) - curve.score(fractions)).max())
    return PowerLaw(a, b, float(low), float(high), residual)


def _fit(fractions: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(a, b) of scores (K, S) at fractions (K,)."""
    x = np.repeat(np.log(fractions), scores.shape[1])
    slope, intercept = np.polyfit(x, np.log(1 - scores).ravel(), 1)
    return float(np.exp(intercept)), float(-slope)
