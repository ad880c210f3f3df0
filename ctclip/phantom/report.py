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
USUAL_HEADING = 0.85  # share of the first heading of a section
NORMAL_FIRST = 0.6  # chance that a normal section with denials also calls itself normal
CLOSING = 0.25  # chance that a section with findings ends in "otherwise normal"


@dataclass(frozen=True)
class Style:
    """How reports are written.

    Args:
        omission: Chance that a present finding is left out; a third of it for a whole section.
        denial: Chance that an absent finding is denied by name.
        variety: Chance that a sentence is worded in any of the known ways; else it is worded in the first.
    """

    omission: float
    denial: float
    variety: float


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


class Pen:
    """Chooses words: a style and the random numbers of one report."""

    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng

    def happens(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def pick(self, ways: Sequence[str]) -> str:
        """One of the ways to say something."""
        return str(self.rng.choice(ways)) if self.happens(self.style.variety) else ways[0]

    def size(self, size_mm: float) -> str:
        """A length in mm or cm, as reports mix them."""
        if size_mm < 10 or self.happens(0.35):
            return f"{size_mm:.0f} mm"
        return f"{size_mm / 10:.1f} cm"

    def fill(self, template: str, lesion: Lesion) -> str:
        """A template with the lesion's severity, side, size and site, as a sentence."""
        is_plural = lesion.side == "bilateral"
        if lesion.finding == "renal_cyst" and lesion.severity > 0 and "the {side} kidney" not in template:
            is_plural = True  # a moderate or severe one has smaller companions on its side
        text = template.format(
            severity=self.pick(SEVERITY_WORDS[lesion.severity]),
            extent=EXTENTS[lesion.severity],
            side=lesion.side,
            size=self.size(lesion.size_mm),
            site=lesion.site,
            s="s" if is_plural else "",
            **{"is": "are" if is_plural else "is"},
        )
        text = text.replace("the bilateral", "both")
        return text[0].upper() + text[1:]


def write_report(study: PhantomStudy, truth: Mapping[str, int], style: Style, *, rng: np.random.Generator) -> Report:
    """Write the report of a study.

    Args:
        study: What is there.
        truth: 1, 0, -1 by finding, as `render.visible_truth` gives it; -1 is never mentioned.
        style: How it is written.
        rng: Source of all choices of words.
    """
    pen = Pen(style, rng)
    present = [finding for finding in FINDINGS if truth[finding] == 1]
    omitted = {finding for finding in present if pen.happens(style.omission)}
    said = dict.fromkeys(FINDINGS, -1)
    parts, sections = [], []
    for section in SECTIONS:
        is_left_out = pen.happens(style.omission / 3)
        text, says = _write_section(study, section, truth, omitted, pen)
        if text and not is_left_out:
            parts.append(f"{_choose_heading(study, section, pen)}: {text}")
            sections.append(section)
            said.update(says)
    stated = [finding for finding in present if said[finding] == 1]
    body = ("\n" if pen.happens(0.5) else " ").join(parts)
    return Report(f"FINDINGS: {body}\nIMPRESSION: {_write_impression(study, stated, pen)}", said, tuple(sections))


def _write_section(
    study: PhantomStudy, section: str, truth: Mapping[str, int], omitted: set[str], pen: Pen
) -> tuple[str, dict[str, int]]:
    """One section's sentences and what they say; empty when nothing of it is in the volume or nothing may be said."""
    known = [finding for finding in FINDINGS if CATALOGUE[finding].section == section and truth[finding] != -1]
    # Adrenal glands have no finding of the thirty; they are in the volume where the kidneys are.
    is_imaged = bool(known) or (section == "adrenal glands" and truth["renal_cyst"] != -1)
    if not is_imaged:
        return "", {}
    present = [finding for finding in known if truth[finding] == 1]
    stated = [finding for finding in present if finding not in omitted]
    absent = [finding for finding in known if truth[finding] == 0]
    has_gallbladder = "surgically_absent_gallbladder" not in present
    if not has_gallbladder:  # a gallbladder that is gone has neither stones nor a normal look
        absent = [finding for finding in absent if finding != "gallstones"]
    incidentals = [name for name in study.incidentals if INCIDENTAL_SECTIONS[name] == section]
    lines = [pen.fill(pen.pick(WORDINGS[finding].present), study.lesions[finding]) for finding in stated]
    for name in incidentals:
        size = pen.size(study.incidentals[name])
        lines.append(pen.pick(INCIDENTAL_WORDINGS[name].present).format(size=size))
    pen.rng.shuffle(lines)
    denied = [finding for finding in absent if WORDINGS[finding].absent and pen.happens(pen.style.denial)]
    denials = [pen.pick(WORDINGS[finding].absent) for finding in denied]
    says = {**dict.fromkeys(stated, 1), **dict.fromkeys(denied, 0)}
    if not present and not incidentals and (not denials or pen.happens(NORMAL_FIRST)):
        return " ".join([pen.pick(NORMAL[section]), *denials]), {**says, **dict.fromkeys(absent, 0)}
    if lines and len(stated) == len(present) and has_gallbladder and pen.happens(CLOSING):
        return " ".join([*lines, *denials, pen.pick(OTHERWISE)]), {**says, **dict.fromkeys(absent, 0)}
    return " ".join([*lines, *denials]), says


def _choose_heading(study: PhantomStudy, section: str, pen: Pen) -> str:
    variants = HEADINGS[section]
    if len(variants) == 1 or pen.happens(USUAL_HEADING):
        return variants[0]
    if section == "pelvic" and pen.happens(0.6):
        return SEX_HEADINGS[study.patient.is_male]
    return str(pen.rng.choice(variants[1:]))


def _write_impression(study: PhantomStudy, stated: Sequence[str], pen: Pen) -> str:
    """A numbered list of what matters most, or one line when there is nothing."""
    ranked = [finding for finding in IMPRESSION_ORDER if finding in stated]
    ranked += [finding for finding in stated if finding not in ranked and pen.happens(0.4)]
    lines = [pen.fill(pen.pick(WORDINGS[finding].impression), study.lesions[finding]) for finding in ranked[:6]]
    if not lines:
        is_clear = not study.lesions and not study.incidentals
        return pen.pick(NORMAL_IMPRESSIONS) if is_clear else "See above."
    return " ".join(f"{k}. {line}" for k, line in enumerate(lines, 1))
