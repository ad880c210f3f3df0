"""Which findings a study has: correlated yes or no draws whose marginal shares are exactly the asked prevalences.

A Gaussian copula: each finding has loadings on a few factors (age and vessels, fluid overload, portal hypertension,
cancer, acute abdomen); it is present where its normal score passes the quantile of its prevalence. Three rules bend
this: a share of studies has no finding at all, no gallbladder means no gallstones, and only men have a prostate; the
thresholds of the findings concerned make up for each, so the marginal shares stay what was asked.
"""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS
from ctclip.phantom.stream import random_stream

FACTORS: tuple[str, ...] = ("vessels", "overload", "portal", "cancer", "acute")
LOADINGS: dict[str, dict[str, float]] = {
    "atherosclerosis": {"vessels": 0.75},
    "coronary_calcification": {"vessels": 0.7},
    "aortic_valve_calcification": {"vessels": 0.6},
    "abdominal_aortic_aneurysm": {"vessels": 0.5},
    "renal_cyst": {"vessels": 0.35},
    "renal_hypodensities": {"vessels": 0.3},
    "osteopenia": {"vessels": 0.45},
    "fracture": {"vessels": 0.35},
    "pancreatic_atrophy": {"vessels": 0.4},
    "prostatomegaly": {"vessels": 0.4},
    "hiatal_hernia": {"vessels": 0.25},
    "cardiomegaly": {"vessels": 0.35, "overload": 0.4},
    "pleural_effusion": {"overload": 0.7},
    "atelectasis": {"overload": 0.5},
    "anasarca": {"overload": 0.65},
    "ascites": {"overload": 0.4, "portal": 0.5, "cancer": 0.2},
    "splenomegaly": {"portal": 0.6},
    "hepatomegaly": {"portal": 0.3},
    "thrombosis": {"portal": 0.3, "cancer": 0.3},
    "hepatic_steatosis": {"portal": 0.15},
    "metastatic_disease": {"cancer": 0.75},
    "lymphadenopathy": {"cancer": 0.6},
    "biliary_ductal_dilation": {"cancer": 0.35},
    "hydronephrosis": {"cancer": 0.2},
    "bowel_obstruction": {"acute": 0.4, "cancer": 0.15},
    "free_air": {"acute": 0.35},
    "submucosal_edema": {"acute": 0.3},
    "appendicitis": {"acute": 0.3},
}
MALE_SHARE = 0.5


def draw_present(
    seed: int, patient: int, study: int, *, prevalence: Mapping[str, float], normal_share: float, is_male: bool
) -> tuple[str, ...]:
    """The findings present in one study, in column order.

    Chronic findings use the patient's own scores, so that they are the same in each study of the patient; so does the
    draw that makes a study free of findings.

    Args:
        seed: Seed of the cohort.
        patient: Index of the patient.
        study: Index of the study within the patient.
        prevalence: Asked share per finding, checked by `Knobs`.
        normal_share: Share of patients without any finding.
        is_male: Sex of the patient.
    """
    if is_free_of_findings(seed, patient, normal_share):
        return ()
    chronic = random_stream(seed, patient, "chronic")
    lasting = dict(zip(FACTORS, chronic.standard_normal(len(FACTORS)), strict=True))
    lasting_own = dict(zip(FINDINGS, chronic.standard_normal(len(FINDINGS)), strict=True))
    acute_own = dict(
        zip(FINDINGS, random_stream(seed, patient, study, "acute").standard_normal(len(FINDINGS)), strict=True)
    )
    present = []
    for finding in FINDINGS:
        own = lasting_own if CATALOGUE[finding].is_chronic else acute_own
        score = _score(finding, lasting, own[finding])
        share = conditional_prevalence(finding, prevalence, normal_share)
        is_possible = not (finding == "gallstones" and "surgically_absent_gallbladder" in present)
        is_possible = is_possible and (is_male or finding != "prostatomegaly")
        if is_possible and share > 0 and (share >= 1 or score > NormalDist().inv_cdf(1 - share)):
            present.append(finding)
    return tuple(present)


def is_free_of_findings(seed: int, patient: int, normal_share: float) -> bool:
    """Whether a patient is one of those without any finding."""
    return bool(random_stream(seed, patient, "normal").random() < normal_share)


def conditional_prevalence(finding: str, prevalence: Mapping[str, float], normal_share: float) -> float:
    """Share of a finding among the studies in which it may occur; above 1 when the asked shares cannot be had."""
    if prevalence[finding] == 0:
        return 0.0
    share = prevalence[finding] / (1 - normal_share)
    if finding == "gallstones":
        share /= max(1e-9, 1 - prevalence["surgically_absent_gallbladder"] / (1 - normal_share))
    if finding == "prostatomegaly":
        share /= MALE_SHARE
    return share


def _score(finding: str, factors: Mapping[str, float], own: float) -> float:
    """A standard normal score: factors by their loadings, the rest the finding's own."""
    loadings = LOADINGS.get(finding, {})
    explained = sum(weight * weight for weight in loadings.values())
    shared = sum(weight * factors[name] for name, weight in loadings.items())
    return float(shared + np.sqrt(1 - explained) * own)
