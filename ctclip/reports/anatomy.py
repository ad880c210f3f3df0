"""From a sentence to the anatomies it speaks of: by its heading first, else by the words in it, else by context."""

import re
from functools import lru_cache

from ctclip.reports.sections import SECTION_HEADINGS, cut_impression
from ctclip.reports.sentences import Sentence, split_sentences

# Order matters: the first anatomy found is the primary one, which the following sentences without a hit inherit.
ANATOMY_WORDS: dict[str, tuple[str, ...]] = {
    "pleura": ("pleura", "hemithora", "costophrenic", "pneumothora", "hydropneumothora"),
    "airways": ("trachea", "main bronch", "bronchial tree", "carina", "airway"),
    "lung": (
        "lung", "pulmonary (?!arter|vein|trunk|conus|embol)", "parenchyma window", "parenchymal nodul", "lingula",
        "bronch", "emphysem", "atelecta", "ground[- ]?glass", "consolidat", "interlobular", "peribronch", "mosaic",
        "pneumoni", "bulla", "middle lobe", "apical segment", "laterobasal", "posterobasal", "air[- ]trapping",
        "hilar opacit", "bibasilar", "basilar", "lung bases", "fissure",
    ),
    "heart": (
        "heart", "cardiac", "cardio", "coronar", "pericard", "atrium", "atria", "ventric", "valv", "myocard", "ctr",
        "mitral",
    ),
    "aorta": (
        "aort", "supra[- ]?aortic", "arter(?!y disease)", "vascul", "iliac", "thromb", "vein", "venous", "vena cava",
        "ivc", "athero", "pulmonary trunk",
    ),
    "esophagus": ("esophag", "oesophag", "hiatal", "hiatus"),
    "mediastinum": (
        "mediastin", "thym", "paratracheal", "subcarinal", "prevascular", "hilar", "aortopulmonary", "hilum", "hilus",
    ),
    "lymph nodes": ("lymph", "adenopath", r"lap\b", r"laps\b", "nodal", r"nodes?\b"),
    "thyroid": ("thyroid",),
    "breast": ("breast", "gynecomast", "mammar"),
    "liver": ("liver", "hepat", "biliary", "bile duct", "portal", "choledoch", "steatos", "cirrho"),
    "gallbladder": ("gall ?bladder", "cholecyst", "cholelith", "gallstone"),
    "spleen": ("spleen", "splen"),
    "pancreas": ("pancrea", "wirsung"),
    "adrenal glands": ("adrenal", "surrenal"),
    "kidneys": (
        "kidney", "renal", "nephr", "ureter", "pelvicaly", "collecting system", "perirenal", "intrarenal",
        "perinephric", "pararenal", "hydroneph",
    ),
    "bowel": (
        "bowel", "intestin", "colon", "colitis", "duoden", "jejun", "ile(?:um|al|us)", "stomach", "gastric", "append",
        "rect(?:um|al|o)", "sigmoid", "cec(?:um|al)", "diverticul", "mesent", "anastomos", "loops",
    ),
    "peritoneum": (
        "perito", "ascit", "omentum", "abdominal wall", "free (?:air|fluid|gas)", "umbilic", "inguinal",
        "ventral hernia", "anasarca",
    ),
    "pelvis": (
        "bladder", "prostat", "seminal", "uter", "ovar", "adnex", "pelvi(?:s|c)", "vagin", "cervix", "endometri",
    ),
    "bone": (
        "bone", "verteb", "spine", "spinal", r"ribs?\b", "stern(?!ot)", "scapul", "clavic", "humer", "femor", "sacr",
        "osteo", "scolio", "kypho", "disc", "fractur", "spondyl", "neural foram", "lytic", "skelet", "muscl", "hip",
    ),
    "devices": ("catheter", "stent", "tube", "pacemaker", "suture", "prosthe", "port ", "clip", "implant"),
}  # fmt: skip
ANATOMIES = tuple(ANATOMY_WORDS)

_ANATOMY_OF_SECTION = {
    "lower thorax": ("lung", "pleura", "heart"),
    "liver": ("liver",),
    "gallbladder": ("gallbladder",),
    "spleen": ("spleen",),
    "pancreas": ("pancreas",),
    "adrenal glands": ("adrenal glands",),
    "kidneys": ("kidneys",),
    "bowel": ("bowel",),
    "peritoneum": ("peritoneum",),
    "pelvic": ("pelvis",),
    "circulatory": ("aorta",),
    "lymph nodes": ("lymph nodes",),
    "musculoskeletal": ("bone",),
}
_ANATOMY_OF_HEADING = {
    variant: _ANATOMY_OF_SECTION[section] for section, variants in SECTION_HEADINGS.items() for variant in variants
}
_PATTERNS = {name: re.compile(rf"\b(?:{'|'.join(words)})", re.I) for name, words in ANATOMY_WORDS.items()}


def route_report(text: str, *, cut: bool = True) -> list[tuple[Sentence, tuple[str, ...]]]:
    """Each sentence of a report with the anatomies it speaks of, in order.

    A heading counts for the sentences after it up to the next one; words count beside it. A sentence without either
    goes to the primary anatomy of the one before.

    Args:
        text: As written, or in cleaned form.
        cut: Leave out technique, history and their like; False takes every sentence.
    """
    if cut:
        text = "\n".join(part for part in cut_impression(text) if part)
    routed, headed, last = [], (), ()
    for sentence in split_sentences(text):
        if sentence.heading:
            headed = heading_anatomies(sentence.heading)
        own = word_anatomies(sentence.text)
        found = tuple(dict.fromkeys((*headed, *own))) or last
        last = found[:1] or last
        routed.append((sentence, found))
    return routed


def anatomy_texts(text: str) -> dict[str, str]:
    """The sentences that speak of each anatomy, joined; only anatomies that have some, in the order of ANATOMIES."""
    parts: dict[str, list[str]] = {name: [] for name in ANATOMIES}
    for sentence, anatomies in route_report(text):
        for name in anatomies:
            parts[name].append(sentence.text)
    return {name: " ".join(texts) for name, texts in parts.items() if texts}


def heading_anatomies(heading: str) -> tuple[str, ...]:
    """Anatomies of a heading: those of its section, else of its words; () for "Findings"."""
    known = _ANATOMY_OF_HEADING.get(re.sub(r"\s+", " ", heading.lower()))
    return known or word_anatomies(heading)


@lru_cache(maxsize=65536)
def word_anatomies(text: str) -> tuple[str, ...]:
    """Anatomies whose words stand in the text, the one named first in the text first."""
    hits = {name: match.start() for name, pattern in _PATTERNS.items() if (match := pattern.search(text))}
    return tuple(sorted(hits, key=lambda name: hits[name]))
