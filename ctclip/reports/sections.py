"""A report cut at its headings: the thirteen organ sections of abdominal reports, and the impression set apart.

Text goes in, text comes out as it was written (headings kept); `clean_text` then brings it into the form the text
encoder sees. Nothing here knows what a sentence means.

Section names, order and heading variants are those of the Merlin release.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

SECTION_HEADINGS: dict[str, tuple[str, ...]] = {
    "lower thorax": ("lower thorax", "lower chest", "lung bases"),
    "liver": ("liver and biliary tree", "biliary system", "liver"),
    "gallbladder": ("gallbladder",),
    "spleen": ("spleen",),
    "pancreas": ("pancreas",),
    "adrenal glands": ("adrenal glands", "adrenals"),
    "kidneys": ("kidneys and ureters", "kidneys, ureters", "kidneys", "gu"),
    "bowel": ("gastrointestinal tract", "bowel/mesentery", "bowel", "gi"),
    "peritoneum": ("peritoneal space", "peritoneal cavity", "abdominal wall", "peritoneum"),
    "pelvic": ("prostate and seminal vesicles", "uterus and ovaries", "pelvic organs", "bladder", "pelvis"),
    "circulatory": ("vasculature",),
    "lymph nodes": ("lymph nodes",),
    "musculoskeletal": ("musculoskeletal", "bones"),
}
SECTIONS = tuple(SECTION_HEADINGS)

_WORDS = re.compile(r"\w+|[^\w\s]+")
_SECTION_OF = {variant: section for section, variants in SECTION_HEADINGS.items() for variant in variants}
_BODY = ("findings", "findings and impression", "report", "discussion", "interpretation")
_IMPRESSION = ("impression", "impressions", "conclusion", "conclusions", "opinion", "summary")
_APART = (
    "technique", "comparison", "comparisons", "comparison exam", "history", "clinical history", "clinical information",
    "clinical indication", "indication", "indications", "reason for exam", "reason for examination", "procedure",
    "procedure comments", "examination", "exam", "contrast", "recommendation", "recommendations", "notification",
    "notifications", "addendum", "electronically signed by",
)  # fmt: skip
_PARTS = (*_BODY, *_IMPRESSION, *_APART)


def _alternation(variants: Iterable[str]) -> str:
    """Variants as one pattern, longest first; a blank is any space, and commas and slashes may stand apart."""
    spaced = [r"\s+".join(_WORDS.findall(variant)) for variant in sorted(variants, key=len, reverse=True)]
    return "|".join(re.sub(r"(?:\\s\+)?([,/])(?:\\s\+)?", r"\\s*\1\\s*", pattern) for pattern in spaced)


# A heading opens the text, a line, or what follows a full stop (with or without a space: "cyst.Liver: ..."), another
# colon, a bullet or a list number; a capital initial is enough after any other word ("Normal Pancreas: ...").
_START = r"(?:^|(?<=[.!?:;\n\"'\-*)>])\s*)"
_ORGAN = re.compile(rf"{_START}\b(?P<name>{_alternation(_SECTION_OF)})\s*:", re.IGNORECASE | re.MULTILINE)
_ORGAN_INSIDE = re.compile(rf"(?<=\s)\b(?P<name>(?=[A-Z])(?i:{_alternation(_SECTION_OF)}))\s*:")
_PART = re.compile(rf"{_START}\b(?P<name>{_alternation(_PARTS)})\s*:", re.I | re.M)
_PART_INSIDE = re.compile(rf"(?<=\s)\b(?P<name>{_alternation(name.upper() for name in _PARTS)})\s*:")
_CAPITALS = re.compile(r"^[ \t]*[A-Z][A-Z ,/&()-]{3,50}:", re.M)  # any other heading that has a line to itself
_NUMBERED = re.compile(r"(?:(?<=[.!?])|\n)\s*1\s*[.)]\s+(?=[A-Za-z<])")
_CT_RATE_QUOTE = re.compile(r'\s+"+\s*(?=\S)')


def clean_text(text: str) -> str:
    """The form in which every text, prompts too, reaches the tokenizer: Merlin's cleaning, to the letter.

    Lower case, then words and runs of punctuation parted by single spaces.

    Example:
        >>> clean_text("Spleen: Normal.")
        'spleen : normal .'
    """
    return " ".join(_WORDS.findall(text.lower()))


def split_sections(report: str) -> dict[str, str]:
    """The thirteen organ sections of a headed report, without its impression.

    Args:
        report: Raw or cleaned text.

    Returns:
        A text for each name of SECTIONS, in that order; "" where the report has no such heading. A section joins all
        parts whose heading belongs to it, in the order of the report, and each part keeps its heading.

    Example:
        >>> split_sections("Lower thorax: Cyst.Liver: Normal. Bladder: Full. Pelvis: Normal.")["pelvic"]
        'Bladder: Full. Pelvis: Normal.'
    """
    parts: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for heading, text in headed_parts(cut_impression(report)[0]):
        if heading:
            parts[_SECTION_OF[heading]].append(text)
    return {section: " ".join(texts) for section, texts in parts.items()}


def headed_parts(text: str) -> list[tuple[str, str]]:
    """(heading variant in lower case, text with its heading) for each organ heading, in order.

    What stands before the first heading comes first under the heading "" (left out when blank).
    """
    starts = {match.start("name"): match for match in _ORGAN_INSIDE.finditer(text)}
    starts |= {match.start("name"): match for match in _ORGAN.finditer(text)}
    bounds = [*sorted(starts), len(text)]
    parts = [("", text[: bounds[0]].strip())]
    for start, stop in pairwise(bounds):
        parts.append((_variant(starts[start].group("name")), text[start:stop].strip()))
    return [(name, part) for name, part in parts if part]


def cut_impression(report: str) -> tuple[str, str]:
    """(findings, impression) of one report text.

    The impression is what stands under such a heading up to the next heading of the report's frame, wherever that is;
    without the heading, a list "1. ... 2. ..." that follows the last organ heading. Technique, history and their like
    belong to neither.
    """
    starts = {match.start("name"): match for match in _PART_INSIDE.finditer(report)}
    starts |= {match.start("name"): match for match in _PART.finditer(report)}
    bounds = [*sorted(starts), len(report)]
    findings, impression = [report[: bounds[0]]], []
    for start, stop in pairwise(bounds):
        name = _variant(starts[start].group("name"))
        text = report[starts[start].end() : stop]
        if name in _BODY:
            findings.append(text)
        elif name in _IMPRESSION:
            impression.append(text)
        elif match := _CAPITALS.search(text):  # technique, history and their like end at any heading
            findings.append(text[match.start() :])
    body = " ".join(part.strip() for part in findings if part.strip())
    if not impression:
        body, listed = _cut_numbered(body)
        impression = [listed]
    return body, " ".join(part.strip() for part in impression if part.strip())


def cut_ct_rate_text(text: str) -> tuple[str, str]:
    """(findings, impression) of a CT-RATE text in one string, whose impression starts at the first stray quote."""
    match = _CT_RATE_QUOTE.search(text)
    return (text[: match.start()].strip(), text[match.end() :].strip()) if match else (text.strip(), "")


def join_ct_rate(findings: str, impression: str) -> str:
    """One report text from CT-RATE's columns Findings_EN and Impressions_EN; an empty one leaves no heading."""
    named = (("FINDINGS", findings), ("IMPRESSION", impression))
    return " ".join(f"{name}: {text.strip()}" for name, text in named if text.strip())


def _variant(heading: str) -> str:
    """A heading as written -> its entry in the tables above."""
    return re.sub(r"\s*,", ",", re.sub(r"\s*/\s*", "/", re.sub(r"\s+", " ", heading.lower())))


def _cut_numbered(body: str) -> tuple[str, str]:
    headings = [match.end() for match in _ORGAN.finditer(body)]
    if not headings:
        return body, ""
    match = _NUMBERED.search(body, headings[-1])
    return (body[: match.start()].strip(), body[match.start() :].strip()) if match else (body, "")
