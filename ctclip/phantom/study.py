"""A patient and a study as drawn: traits, and what is present, before any voxel is made.

Enters: (seed, patient, study) and the knobs. Leaves: frozen data from which volume, masks, labels and report are all
made, so that none of them can contradict another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctclip.phantom.catalogue import CATALOGUE, INCIDENTAL_SIZES_MM, SEVERITIES
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.organs import PHASES
from ctclip.phantom.prevalence import MALE_SHARE, draw_present, is_free_of_findings
from ctclip.phantom.stream import random_stream


@dataclass(frozen=True)
class Patient:
    """Traits that stay with a patient.

    Args:
        index: 0, 1, ... within the cohort.
        is_male: Sex.
        age: Years.
        scale: Size of the skeleton and the viscera against the mean adult, about 0.9 to 1.1.
        fat_mm: Thickness of the subcutaneous fat at the flank.
        sizes_mm: Normal size of liver, spleen, heart, aorta and prostate.
        jitter: (8,) standard normal numbers that shift organs a little.
    """

    index: int
    is_male: bool
    age: int
    scale: float
    fat_mm: float
    sizes_mm: Mapping[str, float]
    jitter: tuple[float, ...]


@dataclass(frozen=True)
class Lesion:
    """One finding as it is in one study.

    Args:
        finding: Name in the catalogue.
        severity: 0 mild, 1 moderate, 2 severe.
        size_mm: What the catalogue's `measure` says, effect size applied; 0 where it has no size.
        side: right, left, bilateral or "".
        site: Place, or "".
        count: How many lesions (stones, cysts, nodes); 1 where that means nothing.
        effect: Multiplier of the departure from normal.
    """

    finding: str
    severity: int
    size_mm: float
    side: str
    site: str
    count: int
    effect: float

    @property
    def word(self) -> str:
        return SEVERITIES[self.severity]

    def has(self, side: str) -> bool:
        return self.side in (side, "bilateral")


@dataclass(frozen=True)
class PhantomStudy:
    """One study, complete but for voxels and words.

    Args:
        seed: Seed of the cohort.
        patient: Whose study it is.
        index: 0, 1, ... within the patient.
        phase: Contrast phase.
        is_sharp: Sharp kernel.
        noise: Multiplier of the scanner noise.
        variation: Multiplier of the spread of anatomy and positioning.
        lesions: What is present, by finding, in column order.
        incidentals: Sizes in mm of abnormalities outside the thirty.
    """

    seed: int
    patient: Patient
    index: int
    phase: str
    is_sharp: bool
    noise: float
    variation: float
    lesions: Mapping[str, Lesion]
    incidentals: Mapping[str, float]

    @property
    def name(self) -> str:
        """Study id; the word phantom is in it."""
        return f"phantom_{self.patient.index:06d}_{self.index}"

    @property
    def patient_name(self) -> str:
        return f"phantom_{self.patient.index:06d}"

    def lesion(self, finding: str) -> Lesion | None:
        return self.lesions.get(finding)

    def stream(self, name: str) -> np.random.Generator:
        """A generator for what stays with the patient: shapes of organs, places of chronic lesions."""
        return random_stream(self.seed, self.patient.index, name)

    def study_stream(self, name: str) -> np.random.Generator:
        """A generator for what changes from study to study."""
        return random_stream(self.seed, self.patient.index, self.index, name)


def draw_patient(seed: int, index: int, knobs: Knobs) -> Patient:
    """The traits of a patient, a pure function of (seed, index) and the knobs' variation."""
    rng = random_stream(seed, index, "patient")
    is_male = bool(rng.random() < MALE_SHARE)
    spread = knobs.variation

    def around(mean: float, deviation: float, low: float, high: float) -> float:
        return float(np.clip(mean + spread * deviation * rng.standard_normal(), low, high))

    scale = around(1.02 if is_male else 0.97, 0.035, 0.88, 1.12)
    return Patient(
        index=index,
        is_male=is_male,
        age=int(around(60, 15, 20, 92)),
        scale=scale,
        fat_mm=around(20, 9, 6, 48),
        sizes_mm={
            "liver": around(152, 9, 128, 170),
            "spleen": around(98, 9, 76, 118),
            "heart": around(116, 6, 100, 130),
            "aorta": around(20, 2, 15, 25),
            "prostate": around(40, 3, 33, 46),
        },
        jitter=tuple(float(np.clip(spread * value, -2, 2)) for value in rng.standard_normal(8)),
    )


def draw_study(seed: int, patient: Patient, index: int, knobs: Knobs) -> PhantomStudy:
    """One study of a patient, a pure function of (seed, patient, index) and the knobs."""
    present = draw_present(
        seed, patient.index, index,
        prevalence=knobs.prevalence, normal_share=knobs.normal_share, is_male=patient.is_male,
    )  # fmt: skip
    rng = random_stream(seed, patient.index, index, "protocol")
    return PhantomStudy(
        seed=seed,
        patient=patient,
        index=index,
        phase=str(rng.choice(PHASES, p=knobs.phases)),
        is_sharp=bool(rng.random() < knobs.sharp_share),
        noise=knobs.noise,
        variation=knobs.variation,
        lesions={finding: draw_lesion(seed, patient, index, finding, knobs) for finding in present},
        incidentals=draw_incidentals(seed, patient, knobs),
    )


def draw_incidentals(seed: int, patient: Patient, knobs: Knobs) -> dict[str, float]:
    """Sizes (mm) of the abnormalities outside the thirty; they stay with the patient, and normal patients have none."""
    if is_free_of_findings(seed, patient.index, knobs.normal_share):
        return {}
    rng = random_stream(seed, patient.index, "incidental")
    drawn = {}
    for name, (low, high) in INCIDENTAL_SIZES_MM.items():
        chance, size = rng.random(), rng.uniform(low, high)
        if chance < knobs.incidental_share and not (name == "uterine_fibroid" and patient.is_male):
            drawn[name] = round(float(size), 1)
    return drawn


def draw_lesion(seed: int, patient: Patient, index: int, finding: str, knobs: Knobs) -> Lesion:
    """Severity, size, side, site and count of a finding; chronic findings keep theirs over the patient's studies."""
    facts = CATALOGUE[finding]
    key = (patient.index, finding) if facts.is_chronic else (patient.index, index, finding)
    rng = random_stream(seed, *key)
    severity = int(rng.choice(3, p=knobs.severity))
    low, high = facts.size_mm[severity]
    effect = knobs.effect[finding]
    size = facts.normal_mm + effect * (float(rng.uniform(low, high)) - facts.normal_mm) if high > 0 else 0.0
    return Lesion(
        finding=finding,
        severity=severity,
        size_mm=round(size, 1),
        side=str(rng.choice(facts.sides)) if facts.sides else "",
        site=str(rng.choice(facts.sites)) if facts.sites else "",
        count=int(rng.integers(1 + severity, 4 + 2 * severity)),
        effect=effect,
    )
