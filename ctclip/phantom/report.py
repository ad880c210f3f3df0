"""The report of a study, in Merlin's sections, written from the same truth as its voxels.

Enters: the drawn study and what of it is visible. Leaves: text and, by finding, what the text says: 1 stated, 0 denied
by name or by calling its organ normal, -1 not mentioned. A report may be silent on a finding that is there
(`omission`), but then it calls nothing normal that is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctclip.phantom.catalogue import CATALOGUE, FINDINGS, INCIDENTAL_SECTIONS
from ctclip.phantom.study import Lesion, PhantomStudy
from ctclip.phantom.wording import (
    EXTENTS,
    HEADINGS,
    INCIDENTAL_WORDINGS,
    NORMAL,
    NORMAL_IMPRESSIONS,
    OTHERWISE,
    SEVERITY_WORDS,
    SEX_HEADINGS,
    WORDINGS,
)

SECTIONS = tuple(HEADINGS)
IMPRESSION_ORDER = (
    "free_air", "appendicitis", "bowel_obstruction", "thrombosis", "metastatic_disease", "abdominal_aortic_aneurysm",
    "hydronephrosis", "biliary_ductal_dilation", "submucosal_edema", "fracture", "lymphadenopathy", "ascites",
    "pleural_effusion", "splenomegaly", "hepatomegaly", "hepatic_steatosis", "gallstones", "cardiomegaly", "anasarca",
)  # fmt: skip
NAMED_NEGATION = 0.4  # chance that an absent finding is denied by name
USUAL_HEADING = 0.85


@dataclass(frozen=True)
class Report:
    """A report.

    Args:
        text: Findings by section, then the impression.
        says: 1, 0 or -1 by finding.
        sections: Names of the sections that stand in the text.
    """

    text: str
    says: Mapping[str, int]
    sections: tuple[str, ...]


def write_report(study: PhantomStudy, truth: Mapping[str, int], *, omission: float, rng: np.random.Generator) -> Report:
    """Write the report of a study.

    Args:
        study: What is there.
        truth: 1, 0, -1 by finding, as `render.visible_truth` gives it; -1 is never mentioned.
        omission: Chance that a present finding is left out; a third of it for a whole section.
        rng: Source of all choices of words.
    """
    present = [finding for finding in FINDINGS if truth[finding] == 1]
    omitted = {finding for finding in present if rng.random() < omission}
    said = dict.fromkeys(FINDINGS, -1)
    parts, sections = [], []
    for section in SECTIONS:
        is_left_out = rng.random() < omission / 3
        text, says = _write_section(study, section, truth, omitted, rng)
        if text and not is_left_out:
            heading = _choose_heading(study, section, rng)
            parts.append(f"{heading}: {text}")
            sections.append(section)
            said.update(says)
    stated = [finding for finding in present if said[finding] == 1]
    impression = _write_impression(study, stated, rng)
    body = ("\n" if rng.random() < 0.5 else " ").join(parts)
    return Report(f"FINDINGS: {body}\nIMPRESSION: {impression}", said, tuple(sections))


def _write_section(
    study: PhantomStudy, section: str, truth: Mapping[str, int], omitted: set[str], rng: np.random.Generator
) -> tuple[str, dict[str, int]]:
    """One section's sentences and what they say; empty when nothing of it is in the volume or nothing may be said."""
    members = [finding for finding in FINDINGS if CATALOGUE[finding].section == section and truth[finding] != -1]
    incidentals = [name for name in study.incidentals if INCIDENTAL_SECTIONS[name] == section]
    if not members and section != "adrenal glands":
        return "", {}
    present = [finding for finding in members if truth[finding] == 1]
    stated = [finding for finding in present if finding not in omitted]
    absent = [finding for finding in members if truth[finding] == 0]
    if "surgically_absent_gallbladder" in present:  # a gallbladder that is gone has neither stones nor a normal look
        absent = [finding for finding in absent if finding != "gallstones"]
    says = dict.fromkeys(stated, 1)
    lines = [fill(str(rng.choice(WORDINGS[finding].present)), study.lesions[finding], rng) for finding in stated]
    lines += [_fill_incidental(name, study.incidentals[name], rng) for name in incidentals]
    rng.shuffle(lines)
    denied = [finding for finding in absent if WORDINGS[finding].absent and rng.random() < NAMED_NEGATION]
    denials = [str(rng.choice(WORDINGS[finding].absent)) for finding in denied]
    says |= dict.fromkeys(denied, 0)
    is_normal = not present and not incidentals
    if is_normal and (not denials or rng.random() < 0.6):
        return " ".join([str(rng.choice(NORMAL[section])), *denials]), {**says, **dict.fromkeys(absent, 0)}
    is_closed = bool(lines) and len(stated) == len(present) and "surgically_absent_gallbladder" not in present
    if is_closed and rng.random() < 0.25:
        return " ".join([*lines, *denials, str(rng.choice(OTHERWISE))]), {**says, **dict.fromkeys(absent, 0)}
    return " ".join([*lines, *denials]), says


def fill(template: str, lesion: Lesion, rng: np.random.Generator) -> str:
    """A template with the lesion's severity, side, size and site, as a sentence."""
    is_both = lesion.side == "bilateral"
    text = template.format(
        severity=str(rng.choice(SEVERITY_WORDS[lesion.severity])),
        extent=EXTENTS[lesion.severity],
        side=lesion.side,
        size=size_text(lesion.size_mm, rng),
        site=lesion.site,
        s="s"
        if is_both or (lesion.finding == "renal_cyst" and lesion.severity > 0 and "in the" not in template)
        else "",
        **{"is": "are" if is_both or (lesion.finding == "renal_cyst" and lesion.severity > 0) else "is"},
    )
    text = text.replace("the bilateral", "both")
    return text[0].upper() + text[1:]


def size_text(size_mm: float, rng: np.random.Generator) -> str:
    """A length in mm or cm, as reports mix them."""
    if size_mm < 10 or rng.random() < 0.35:
        return f"{size_mm:.0f} mm"
    return f"{size_mm / 10:.1f} cm"


def _fill_incidental(name: str, size_mm: float, rng: np.random.Generator) -> str:
    template = str(rng.choice(INCIDENTAL_WORDINGS[name].present))
    return template.format(size=size_text(size_mm, rng))


def _choose_heading(study: PhantomStudy, section: str, rng: np.random.Generator) -> str:
    variants = HEADINGS[section]
    if len(variants) == 1 or rng.random() < USUAL_HEADING:
        return variants[0]
    if section == "pelvic" and rng.random() < 0.6:
        return SEX_HEADINGS[study.patient.is_male]
    return str(rng.choice(variants[1:]))


def _write_impression(study: PhantomStudy, stated: Sequence[str], rng: np.random.Generator) -> str:
    """A numbered list of what matters most, or one line when there is nothing."""
    ranked = [finding for finding in IMPRESSION_ORDER if finding in stated]
    ranked += [finding for finding in stated if finding not in ranked and rng.random() < 0.4]
    lines = [fill(str(rng.choice(WORDINGS[f].impression)), study.lesions[f], rng) for f in ranked[:6]]
    if not lines:
        is_clear = not study.lesions and not study.incidentals
        return str(rng.choice(NORMAL_IMPRESSIONS)) if is_clear else "See above."
    return " ".join(f"{k}. {line}" for k, line in enumerate(lines, 1))
