"""Planted cohorts have the answer their formula gives; null cohorts have none."""

import numpy as np
import pytest

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.knobs import PLANTED, Knobs
from ctclip.phantom.planting import FLIP, FLIPS, efficiency, told_study
from ctclip.phantom.study import draw_patient, draw_study

RATIOS = {"75:25": 0.25, "50:50": 0.5, "25:75": 0.75}
PREVALENCE = dict.fromkeys(FINDINGS, 0.15)


def told(knobs: Knobs, num: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) truth and what the reports are told."""
    rows: tuple[list[list[int]], list[list[int]]] = ([], [])
    for index in range(num):
        study = draw_study(0, draw_patient(0, index, knobs), 0, knobs)
        truth = {finding: int(finding in study.lesions) for finding in FINDINGS}
        other, said = told_study(study, truth, knobs)
        assert {finding for finding in FINDINGS if said[finding] == 1} <= set(other.lesions)
        rows[0].append(list(truth.values()))
        rows[1].append(list(said.values()))
    return np.array(rows[0]), np.array(rows[1])


@pytest.mark.parametrize("planted", sorted(RATIOS))
def test_the_planted_ratio_is_the_most_efficient_of_the_three(planted):
    scores = {name: efficiency(share, planted) for name, share in RATIOS.items()}
    assert max(scores, key=lambda name: scores[name]) == planted


@pytest.mark.parametrize("planted", sorted(RATIOS))
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_formula_is_the_signal_to_noise_ratio_of_a_simulated_batch(planted, share):
    flip_abnormal, flip_normal = FLIPS[planted]
    rng = np.random.default_rng(0)
    image = rng.random(400_000) < share
    flipped = rng.random(400_000) < np.where(image, flip_abnormal, flip_normal)
    text = image ^ flipped
    covariance = np.cov(image, text)[0, 1]
    assert covariance**2 / text.var() == pytest.approx(efficiency(share, planted), rel=0.05)


def test_reports_without_planting_are_told_the_truth():
    truth, said = told(Knobs(prevalence=PREVALENCE), 50)
    assert np.array_equal(truth, said)


def test_a_planted_cohort_flips_whole_sections_at_the_stated_rate_on_one_side_alone():
    sections = np.array([facts.section for facts in CATALOGUE.values()])
    for planted, (flip_abnormal, flip_normal) in FLIPS.items():
        truth, said = told(Knobs(prevalence=PREVALENCE, planted=planted), 250)
        flips: tuple[list[bool], list[bool]] = ([], [])
        for section in ("lower thorax", "liver", "bowel", "circulatory"):
            was, now = (rows[:, sections == section].any(axis=1) for rows in (truth, said))
            flips[0].extend(was[~was] != now[~was])
            flips[1].extend(was[was] != now[was])
        assert np.mean(flips[0]) == pytest.approx(flip_normal, abs=0.06)
        assert np.mean(flips[1]) == pytest.approx(flip_abnormal, abs=0.06)
    assert set(FLIPS) == set(PLANTED)
    assert 0 < FLIP < 1


def test_a_null_cohorts_text_has_the_same_prevalences_and_no_correlation_with_the_truth():
    truth, said = told(Knobs(prevalence=dict.fromkeys(FINDINGS, 0.3), is_null=True, normal_share=0.0), 500)
    assert np.abs(truth.mean(axis=0) - said.mean(axis=0)).max() < 0.1
    correlations = [np.corrcoef(truth[:, k], said[:, k])[0, 1] for k in range(len(FINDINGS))]
    sexless = [c for finding, c in zip(FINDINGS, correlations, strict=True) if finding != "prostatomegaly"]
    assert np.abs(sexless).max() < 0.15
    assert abs(np.mean(sexless)) < 0.03
