"""What a report is told: the truth, or, for experiments with a known answer, something else on purpose.

`planted` makes one batch ratio normal:abnormal win. Let f be the share of abnormal studies in a section's batches, and
let a section's text be flipped with chance c_a when it is abnormal and c_n when it is normal. A contrast between the
images of texts that name a finding and those that do not has the signal-to-noise ratio (covariance over the standard
deviation of the text, per study, images of unit variance within a class)

    snr(f)^2 = [f (1 - f) (1 - c_a - c_n)]^2 / (p (1 - p)),     p = f (1 - c_a) + (1 - f) c_n

Without flips that is f (1 - f): 50:50 wins. With c_a near 1 it nears f (1 - f)^2, whose best f is 1/3 and falls to a
third at f = 0.75: 75:25 wins over 50:50 a little and over 25:75 by far. c_n mirrors it. The effect comes from exposure
alone, so the ratio's shuffled twin must share it: a study that finds otherwise has a fault.

A null cohort tells each report the truth of another patient, drawn anew from the same prevalences.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.study import PhantomStudy, draw_lesion, draw_patient, draw_study
from ctclip.phantom.wording import HEADINGS

FLIP = 0.8
NULL_OFFSET = 1_000_000_000  # patients told in a null cohort have indices no volume has
FLIPS = {"none": (0.0, 0.0), "50:50": (0.0, 0.0), "75:25": (FLIP, 0.0), "25:75": (0.0, FLIP)}


def efficiency(share_abnormal: float, planted: str) -> float:
    """snr(f)^2 of the module's formula for a batch with this share of abnormal studies."""
    flip_abnormal, flip_normal = FLIPS[planted]
    f = share_abnormal
    p = f * (1 - flip_abnormal) + (1 - f) * flip_normal
    return (f * (1 - f) * (1 - flip_abnormal - flip_normal)) ** 2 / (p * (1 - p))


def told_study(study: PhantomStudy, truth: Mapping[str, int], knobs: Knobs) -> tuple[PhantomStudy, dict[str, int]]:
    """The study and the truth that its report is written from.

    Args:
        study: As drawn and rendered.
        truth: 1, 0, -1 by finding, as visible.
        knobs: `is_null` and `planted` are read.
    """
    if knobs.is_null:
        return _another(study, truth, knobs)
    if FLIPS[knobs.planted] == (0.0, 0.0):
        return study, dict(truth)
    return _flipped(study, truth, knobs)


def _another(study: PhantomStudy, truth: Mapping[str, int], knobs: Knobs) -> tuple[PhantomStudy, dict[str, int]]:
    stranger = draw_patient(study.seed, NULL_OFFSET + study.patient.index, knobs)
    other = draw_study(study.seed, replace(stranger, is_male=study.patient.is_male), study.index, knobs)
    told = {finding: -1 if truth[finding] == -1 else int(finding in other.lesions) for finding in FINDINGS}
    return other, told


def _flipped(study: PhantomStudy, truth: Mapping[str, int], knobs: Knobs) -> tuple[PhantomStudy, dict[str, int]]:
    rng = study.study_stream("planting")
    lesions, told = dict(study.lesions), dict(truth)
    flip_abnormal, flip_normal = FLIPS[knobs.planted]
    for section in HEADINGS:
        members = [f for f in FINDINGS if CATALOGUE[f].section == section and truth[f] != -1]
        present = [f for f in members if truth[f] == 1]
        if not rng.random() < (flip_abnormal if present else flip_normal):
            continue
        if present:
            told.update(dict.fromkeys(present, 0))
            continue
        invented = _invent(rng, members, study, knobs)
        if invented:
            told[invented] = 1
            lesions[invented] = draw_lesion(study.seed, study.patient, study.index, invented, knobs)
    kept = {finding: lesions[finding] for finding in FINDINGS if told[finding] == 1}
    return replace(study, lesions=kept), told


def _invent(rng: np.random.Generator, members: list[str], study: PhantomStudy, knobs: Knobs) -> str:
    """A finding of the section for the report to claim, by prevalence; "" where none can be."""
    possible = [f for f in members if knobs.prevalence[f] > 0 and (f != "prostatomegaly" or study.patient.is_male)]
    if not possible:
        return ""
    weights = np.array([knobs.prevalence[finding] for finding in possible])
    return str(rng.choice(possible, p=weights / weights.sum()))
