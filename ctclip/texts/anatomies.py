"""Anatomies: which words of a report and which values of a label map mean the same part of the body.

An anatomy has a name, the names by which ctclip.reports.anatomy routes sentences, and values of a label map. Row
order is the order of the set: anatomy number a of every array is entry a.
"""

from dataclasses import dataclass

import numpy as np

from ctclip.errors import ConfigError
from ctclip.phantom import organs
from ctclip.reports.anatomy import ANATOMIES
from ctclip.texts.finding_anatomy import ANATOMY_OF

MAX_LABEL = 32767  # label maps arrive as int16


@dataclass(frozen=True)
class Anatomy:
    """One part of the body.

    Attributes:
        name: As sentences say it: "{name} shows no significant abnormalities."
        words: Names of ctclip.reports.anatomy.ANATOMIES whose sentences are its text.
        labels: Values of the label map, from 1.
    """

    name: str
    words: tuple[str, ...]
    labels: tuple[int, ...]


PHANTOM_ANATOMIES = (
    Anatomy("lung", ("lung", "pleura", "airways"), (organs.LUNG, organs.PLEURA)),
    Anatomy("heart", ("heart",), (organs.HEART,)),
    Anatomy("aorta", ("aorta",), (organs.AORTA, organs.ARTERY, organs.VEIN)),
    Anatomy("liver", ("liver", "gallbladder"), (organs.LIVER, organs.GALLBLADDER, organs.DUCT)),
    Anatomy("spleen", ("spleen",), (organs.SPLEEN,)),
    Anatomy("bowel", ("bowel",), (organs.STOMACH, organs.SMALL_BOWEL, organs.COLON, organs.APPENDIX)),
    Anatomy("bone", ("bone",), (organs.SPINE, organs.BONE)),
    Anatomy(
        "peritoneum", ("peritoneum",), (organs.SUBCUTANEOUS, organs.CAVITY_FAT, organs.FLUID, organs.GAS)
    ),  # the body wall too: its edema is told under this heading
)
"""Of the organ masks of ctclip.phantom."""

CT_RATE_ANATOMIES = (
    Anatomy("lung", ("lung", "pleura", "airways"), (1,)),
    Anatomy("heart", ("heart",), (2,)),
    Anatomy("esophagus", ("esophagus",), (3,)),
    Anatomy("aorta", ("aorta",), (4,)),
)
"""fVLM's four on CT-RATE, whose merged masks count 1 to 4."""


ANATOMY_SETS = {"phantom": PHANTOM_ANATOMIES, "ct-rate": CT_RATE_ANATOMIES}


def check_anatomies(anatomies: tuple[Anatomy, ...]) -> None:
    """Refuse a set that contradicts itself.

    Raises:
        ConfigError: None at all, a name twice, words that the router does not know, a label out of range or in two.
    """
    if not anatomies:
        raise ConfigError("no anatomies; take PHANTOM_ANATOMIES or CT_RATE_ANATOMIES, or name your own")
    owners: dict[int, str] = {}
    names: set[str] = set()
    for anatomy in anatomies:
        unknown = [word for word in anatomy.words if word not in ANATOMIES]
        if unknown or not anatomy.words:
            raise ConfigError(f"anatomy {anatomy.name!r}: words {anatomy.words} must be among {', '.join(ANATOMIES)}")
        if anatomy.name in names:
            raise ConfigError(f"anatomy {anatomy.name!r} is named twice; every name may stand once")
        names.add(anatomy.name)
        for label in anatomy.labels:
            if not 1 <= label <= MAX_LABEL:
                raise ConfigError(f"anatomy {anatomy.name!r}: label {label} is outside 1..{MAX_LABEL}; 0 is background")
            if label in owners:
                raise ConfigError(f"label {label} is of {owners[label]!r} and of {anatomy.name!r}; give it to one")
            owners[label] = anatomy.name


def finding_place(finding: str, anatomies: tuple[Anatomy, ...]) -> int | None:
    """Number of the anatomy in which a finding is looked for; None where the set has none for it.

    Args:
        finding: A name of ctclip.texts.finding_anatomy.ANATOMY_OF; others have no anatomy.
        anatomies: Of the run.
    """
    noun = ANATOMY_OF.get(finding)
    noun = "aorta" if noun == "vasculature" else noun
    return next((k for k, anatomy in enumerate(anatomies) if noun == anatomy.name or noun in anatomy.words), None)


def label_table(anatomies: tuple[Anatomy, ...]) -> np.ndarray:
    """(1 + largest label,) int64: label -> anatomy number + 1, 0 where it is of none."""
    table = np.zeros(1 + max((label for one in anatomies for label in one.labels), default=0), np.int64)
    for number, anatomy in enumerate(anatomies, 1):
        table[list(anatomy.labels)] = number
    return table
