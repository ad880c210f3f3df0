"""Effects on made-up scores: their level under a null, their sign, their intervals."""

from dataclasses import replace

import numpy as np
import pytest

from ctclip.errors import StudyError
from ctclip.study.arm import arms_of
from ctclip.study.comparison import CLAIMS, Claim, comparisons_of, verdict
from ctclip.study.effects import ArmScores, correct, detectable_from_pilot, paired_effect
from ctclip.study.scaling import fit_power_law

NUM_PATIENTS, NUM_DRAWS = 80, 200


def made_up_arm(rng, *, gain: float, patients: np.ndarray, weights: np.ndarray, num_seeds: int, sd: float) -> ArmScores:
    """Score of a seed: mean over patients of (patient + gain + seed's own shift + noise)."""
    shifts = rng.normal(0, sd, num_seeds)
    noise = rng.normal(0, 0.1, (num_seeds, NUM_PATIENTS))
    by_patient = patients + gain + shifts[:, None] + noise  # (S, P)
    draws = by_patient @ weights.T / weights.sum(axis=1)  # (S, R)
    return ArmScores(by_patient.mean(axis=1), draws, NUM_PATIENTS)


def one_study(number: int, *, gain: float, num_seeds: int = 5, sd: float = 0.02) -> tuple[ArmScores, ArmScores]:
    rng = np.random.default_rng(number)
    patients = rng.normal(0.7, 0.2, NUM_PATIENTS)
    weights = rng.multinomial(NUM_PATIENTS, np.full(NUM_PATIENTS, 1 / NUM_PATIENTS), size=NUM_DRAWS)
    a, b = (
        made_up_arm(rng, gain=share, patients=patients, weights=weights, num_seeds=num_seeds, sd=sd)
        for share in (gain, 0.0)
    )
    return a, b


def test_two_equal_strategies_are_told_apart_no_more_often_than_the_level():
    p_values = np.array([paired_effect(*one_study(number, gain=0.0)).p for number in range(200)])
    # 200 draws of a true 5 % stay at or below 17 with a probability of 0.99.
    assert (p_values < 0.05).sum() <= 17
    assert 0.3 < p_values.mean() < 0.75


def test_intervals_cover_the_true_difference_at_their_level():
    effects = [paired_effect(*one_study(number, gain=0.05)) for number in range(200)]
    covered = sum(effect.low <= 0.05 <= effect.high for effect in effects)
    assert covered >= 183
    assert all(effect.boot_low < effect.boot_high for effect in effects)


def test_a_true_difference_of_the_detectable_size_is_found_about_as_often_as_promised():
    size = float(np.median([paired_effect(*one_study(number, gain=0.0)).detectable for number in range(40)]))
    effects = [paired_effect(*one_study(1000 + number, gain=size)) for number in range(100)]
    assert 65 <= sum(effect.p < 0.05 for effect in effects) <= 97
    assert all(effect.value > 0 for effect in effects if effect.p < 0.01)


def test_seeds_that_differ_widen_the_interval_and_patients_that_differ_do_too():
    calm, wild = (paired_effect(*one_study(3, gain=0.0, sd=sd)) for sd in (0.001, 0.2))
    assert wild.se > 5 * calm.se
    assert wild.se >= wild.se_patients
    assert calm.se_patients > 0


def test_the_exact_permutation_cannot_go_below_two_of_all_swaps():
    a = ArmScores(np.array([0.9, 0.8, 0.85]), np.full((3, 10), 0.85), 10)
    b = ArmScores(np.array([0.1, 0.2, 0.15]), np.full((3, 10), 0.15), 10)
    assert paired_effect(a, b).p_flips == pytest.approx(2 / 8)
    many = paired_effect(*one_study(1, gain=0.5, num_seeds=16))
    assert many.p_flips < 1e-3


def test_one_seed_gives_a_difference_and_no_p():
    a, b = one_study(0, gain=0.1, num_seeds=1)
    effect = paired_effect(a, b)
    assert effect.value == pytest.approx(float(a.values[0] - b.values[0]))
    assert np.isnan([effect.low, effect.p, effect.p_holm, effect.detectable]).all()
    assert effect.se_patients > 0


def test_holm_raises_p_by_the_number_of_effects():
    effects = correct([paired_effect(*one_study(number, gain=gain)) for number, gain in enumerate((0.2, 0.0, 0.05))])
    assert min(effect.p_holm for effect in effects) == pytest.approx(3 * min(effect.p for effect in effects))
    assert all(effect.p_holm >= effect.p for effect in effects)


def test_a_pilot_says_what_more_seeds_would_find():
    pilot, _ = one_study(5, gain=0.0, num_seeds=3, sd=0.05)
    few, many = (detectable_from_pilot(pilot, num_seeds=number) for number in (3, 12))
    assert few > many > 0
    one = ArmScores(pilot.values[:1], pilot.draws[:1], NUM_PATIENTS)
    assert np.isnan(detectable_from_pilot(one, num_seeds=5))


def test_a_power_law_is_found_again_with_an_interval_around_it():
    rng = np.random.default_rng(0)
    arms = {}
    for fraction in (0.2, 0.4, 1.0):
        values = 1 - 0.2 * fraction**-0.3 + rng.normal(0, 0.004, 5)
        arms[fraction] = ArmScores(values, values[:, None] + rng.normal(0, 0.006, (1, NUM_DRAWS)), NUM_PATIENTS)
    law = fit_power_law(arms)
    assert law.a == pytest.approx(0.2, abs=0.01)
    assert law.b == pytest.approx(0.3, abs=0.04)
    assert law.b_low < law.b < law.b_high
    assert law.residual < 0.01
    assert law.score(np.array([1.0]))[0] == pytest.approx(1 - law.a)


def test_a_curve_needs_three_fractions_and_errors_above_zero():
    arm = ArmScores(np.array([0.8, 0.81]), np.full((2, 10), 0.8), 10)
    with pytest.raises(StudyError, match="three fractions"):
        fit_power_law({0.5: arm, 1.0: arm})
    perfect = replace(arm, values=np.array([1.0, 0.9]))
    with pytest.raises(StudyError, match="no error to scale"):
        fit_power_law({0.2: arm, 0.5: arm, 1.0: perfect})


def test_each_ratio_is_compared_with_random_and_with_its_twin():
    names = {item.name: item.meaning for item in comparisons_of("batch-composition", arms_of("batch-composition"))}
    assert names["25:75 - random"] == "ratio and exposure together"
    assert names["25:75 - 25:75-twin"] == "ratio within the batch, at equal exposure"
    assert names["25:75-twin - random"] == "exposure alone"
    assert len(names) == 11
    found = {(item.a, item.b) for item in comparisons_of("batch-composition", arms_of("batch-composition"))}
    assert {(claim.a, claim.b) for claim in CLAIMS["batch-composition"]} <= found
    scaling = comparisons_of("data-scaling", arms_of("data-scaling"))
    assert {(claim.a, claim.b) for claim in CLAIMS["data-scaling"]} == {(item.a, item.b) for item in scaling}


@pytest.mark.parametrize(
    ("gain", "sign", "is_merlin", "expected"),
    [
        (0.3, 1, False, "same direction"),
        (0.3, -1, False, "opposite"),
        (0.0, 1, False, "unresolved"),
        (0.3, 1, True, "reproduced"),
        (0.3, -1, True, "opposite"),
    ],
)
def test_a_verdict_needs_a_sure_sign_and_only_merlins_own_cohort_reproduces(gain, sign, is_merlin, expected):
    claim = Claim("a made-up claim", "a", "b", sign)
    effect = correct([paired_effect(*one_study(7, gain=gain))])[0]
    assert verdict(claim, effect, is_strong_enough=True, is_merlin=is_merlin) == expected
    assert verdict(claim, effect, is_strong_enough=False, is_merlin=is_merlin) == "instrument too weak"
    assert verdict(claim, None, is_strong_enough=True, is_merlin=is_merlin) == "unresolved"
