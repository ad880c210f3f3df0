"""What is drawn: prevalences, correlations, patients over their studies."""

from dataclasses import replace

import numpy as np
import pytest

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.knobs import PRESETS, Knobs
from ctclip.phantom.prevalence import LOADINGS, draw_present
from ctclip.phantom.study import PhantomStudy, draw_patient, draw_study

NUM_PATIENTS = 3000


def draw(knobs: Knobs, num: int, seed: int = 0) -> list[PhantomStudy]:
    return [draw_study(seed, draw_patient(seed, index, knobs), 0, knobs) for index in range(num)]


@pytest.fixture(scope="module")
def presence() -> np.ndarray:
    """(N, F) bool of a cohort in which everything is common enough to count."""
    knobs = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.2), normal_share=0.1)
    rows = []
    for index in range(NUM_PATIENTS):
        is_male = draw_patient(3, index, knobs).is_male
        present = draw_present(
            3, index, 0, prevalence=knobs.prevalence, normal_share=knobs.normal_share, is_male=is_male
        )
        rows.append([finding in present for finding in FINDINGS])
    return np.array(rows)


def test_each_finding_has_the_prevalence_that_was_asked_for(presence):
    three_errors = 3.3 * np.sqrt(0.2 * 0.8 / NUM_PATIENTS)
    assert np.abs(presence.mean(axis=0) - 0.2).max() < three_errors


def test_the_asked_share_of_patients_has_no_finding_at_all(presence):
    assert (~presence.any(axis=1)).mean() >= 0.09


def test_findings_of_one_disease_come_together(presence):
    column = {finding: presence[:, k].astype(float) for k, finding in enumerate(FINDINGS)}

    def correlation(a: str, b: str) -> float:
        return float(np.corrcoef(column[a], column[b])[0, 1])

    assert correlation("atherosclerosis", "coronary_calcification") > 0.2
    assert correlation("metastatic_disease", "lymphadenopathy") > 0.15
    assert correlation("pleural_effusion", "anasarca") > 0.15
    assert abs(correlation("gallstones", "fracture")) < 0.1


def test_no_study_has_gallstones_without_a_gallbladder_or_a_prostate_in_a_woman():
    knobs = Knobs(prevalence={**dict.fromkeys(FINDINGS, 0.3)}, normal_share=0.0)
    for study in draw(knobs, 300):
        assert not {"gallstones", "surgically_absent_gallbladder"} <= set(study.lesions)
        assert study.patient.is_male or "prostatomegaly" not in study.lesions


def test_chronic_findings_and_their_sizes_stay_with_the_patient_and_acute_ones_change():
    knobs = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.4), normal_share=0.0)
    acute_changes = 0
    for index in range(40):
        patient = draw_patient(0, index, knobs)
        first, second = (draw_study(0, patient, k, knobs) for k in range(2))
        for finding, facts in CATALOGUE.items():
            if facts.is_chronic:
                assert first.lesion(finding) == second.lesion(finding)
            else:
                acute_changes += (finding in first.lesions) != (finding in second.lesions)
    assert acute_changes > 40


def test_a_finding_switched_on_changes_nothing_else():
    knobs = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.3))
    more = knobs.changed(prevalence={"ascites": 0.9})
    for index in range(60):
        patient = draw_patient(0, index, knobs)
        few, many = draw_study(0, patient, 0, knobs), draw_study(0, patient, 0, more)
        without = {finding: lesion for finding, lesion in many.lesions.items() if finding != "ascites"}
        before = {finding: lesion for finding, lesion in few.lesions.items() if finding != "ascites"}
        assert replace(few, lesions={}) == replace(many, lesions={})
        assert without == before


def test_the_effect_size_multiplies_the_departure_from_normal():
    def spleen(effect: float) -> float:
        knobs = Knobs(prevalence={"splenomegaly": 0.9}, normal_share=0.0, effect={"splenomegaly": effect})
        study = next(study for study in draw(knobs, 20) if "splenomegaly" in study.lesions)
        return study.lesions["splenomegaly"].size_mm - CATALOGUE["splenomegaly"].normal_mm

    assert spleen(2.0) == pytest.approx(2 * spleen(1.0), abs=0.2)
    assert spleen(0.0) == 0.0


def test_most_findings_are_rare_and_most_studies_have_several_in_the_realistic_preset():
    prevalence = np.array([facts.prevalence for facts in CATALOGUE.values()])
    assert (prevalence <= 0.1).mean() > 0.5
    counts = np.array([len(study.lesions) for study in draw(Knobs.realistic(), 400)])
    assert np.median(counts) >= 2


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_draws_studies_that_depend_on_the_seed_alone(name):
    knobs = PRESETS[name]()
    assert draw(knobs, 5, seed=4) == draw(knobs, 5, seed=4)
    assert draw(knobs, 5, seed=4) != draw(knobs, 5, seed=5)


def test_loadings_leave_each_finding_a_part_of_its_own():
    for finding, loadings in LOADINGS.items():
        assert finding in CATALOGUE
        assert sum(weight**2 for weight in loadings.values()) < 1
