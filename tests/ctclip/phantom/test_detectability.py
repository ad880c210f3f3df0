"""Each finding is told from its absence by one simple measured rule at 2 mm.

Both sides are the same phantoms, of all severities, with noise, in the venous phase (small hypodensities and thrombi
need contrast, as they do in people); only the finding is toggled. AUROC is over patients, not within pairs.
"""

from dataclasses import replace

import numpy as np
import pytest

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.grid import Grid
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.rendering import Rendered, organ_box, render
from ctclip.phantom.study import PhantomStudy, draw_lesion, draw_patient, draw_study
from ctload.geometry import Box
from tests.ctclip.phantom.detection_rules import RULES, Rule, minus_spleen

GRID = Grid((210, 195, 210), (2.0, 2.0, 2.0))
COARSE = Grid((70, 65, 70), (6.0, 6.0, 6.0))
NUM_PATIENTS = 8
KNOBS = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.0), phases=(0.0, 0.0, 1.0), incidental_share=0.0)


@pytest.fixture(scope="module")
def clean_patients() -> list[tuple[PhantomStudy, Rendered]]:
    """Studies without any finding and their coarse volumes, men first in line for the prostate's sake."""
    patients = [draw_patient(11, index, KNOBS) for index in range(4 * NUM_PATIENTS)]
    men = [patient for patient in patients if patient.is_male][:NUM_PATIENTS]
    women = [patient for patient in patients if not patient.is_male][: NUM_PATIENTS // 2]
    studies = [draw_study(11, patient, 0, KNOBS) for patient in men + women]
    return [(study, render(study, COARSE, is_noisy=False)) for study in studies]


def with_finding(study: PhantomStudy, finding: str) -> PhantomStudy:
    return replace(study, lesions={finding: draw_lesion(11, study.patient, 0, finding, KNOBS)})


def box_for(rule: Rule, coarse: Rendered) -> Box:
    box = organ_box(coarse, rule.organs, GRID, margin_mm=rule.margin_mm)
    limits = np.array((rule.slab_mm, rule.width_mm, rule.width_mm)) / GRID.spacing_mm
    start, stop = np.array(box.start), np.array(box.stop)
    first = np.maximum(start, (start + stop - limits.astype(int)) // 2)
    last = np.minimum(stop, first + limits.astype(int))
    return Box(tuple(first.tolist()), tuple(last.tolist()))


def auroc(present: list[float], absent: list[float]) -> float:
    """Share of (present, absent) pairs in the right order, ties half."""
    difference = np.subtract.outer(present, absent)
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_simple_rule_on_the_organs_voxels_tells_the_finding_from_its_absence(finding, clean_patients):
    rule = RULES[finding]
    half = NUM_PATIENTS // 2
    chosen = (
        clean_patients[:NUM_PATIENTS] if finding == "prostatomegaly" else clean_patients[half : NUM_PATIENTS + half]
    )
    scores: tuple[list[float], list[float]] = ([], [])
    for clean, coarse in chosen:
        box = box_for(rule, coarse)
        for score, study in zip(scores, (with_finding(clean, finding), clean), strict=True):
            rendered = render(study, GRID, box=box)
            score.append(rule.measure(rendered.voxels, rendered.organs))
    assert auroc(*scores) >= 0.9, [np.round(score, 1).tolist() for score in scores]


def test_a_finding_of_no_effect_cannot_be_seen(clean_patients):
    knobs = KNOBS.changed(effect={"splenomegaly": 0.0, "hepatic_steatosis": 0.0})
    clean, coarse = clean_patients[0]
    lesions = {name: draw_lesion(11, clean.patient, 0, name, knobs) for name in ("splenomegaly", "hepatic_steatosis")}
    seen = render(replace(clean, lesions=lesions), COARSE, is_noisy=False)
    assert abs(minus_spleen(seen.voxels, seen.organs) - minus_spleen(coarse.voxels, coarse.organs)) < 1
    assert lesions["splenomegaly"].size_mm == CATALOGUE["splenomegaly"].normal_mm
