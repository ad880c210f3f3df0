"""Per anatomy of a study: its sentences, its normality, and the text by which two studies are the same.

The rules are those of fVLM's data (arXiv 2501.14548, released code): conclusion first, then description; an anatomy
without a conclusion gets a sentence that says it is normal. Where the authors let a language model take a report
apart, here a router of sentences does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ctclip.reports.anatomy import route_report
from ctclip.reports.normality import ABNORMAL, NORMAL, UNKNOWN, sentence_verdict
from ctclip.reports.sections import cut_impression
from ctclip.texts.anatomies import Anatomy

TEMPLATE = "{name} shows no significant abnormalities."


@dataclass(frozen=True)
class AnatomyText:
    """One anatomy of one study.

    Attributes:
        sentences: What the text tower reads, at least one, in order.
        is_abnormal: One flag per sentence.
        num_fixed: Leading sentences that are no sentence of the report (the template): never moved or dropped.
        abnormal: 1, 0 or -1 (nothing said decides).
        text: The original text, template included, by whose equality two studies are positives.
    """

    sentences: tuple[str, ...]
    is_abnormal: tuple[bool, ...]
    num_fixed: int
    abnormal: int
    text: str


def report_anatomy_texts(
    report: str, anatomies: Sequence[Anatomy], *, normal_by: Literal["rules", "conclusion"] = "rules"
) -> list[AnatomyText]:
    """The texts of a report's anatomies, in their order.

    A sentence that speaks of two anatomies stands in both. An anatomy that the report does not mention is normal.

    Args:
        report: As written.
        anatomies: Of the run.
        normal_by: "rules" reads the anatomy's sentences. "conclusion" is fVLM's rule to the letter: normal where the
            impression says nothing of it, whatever the findings say. [inferred: without a language model that writes
            a conclusion for every anatomy, impressions leave too much out]
    """
    findings, impression = cut_impression(report)
    concluded, described = (route_report(part, cut=False) for part in (impression, findings))
    texts = []
    for anatomy in anatomies:
        conclusion, description = (
            [sentence.text for sentence, found in routed if set(found) & set(anatomy.words)]
            for routed in (concluded, described)
        )
        texts.append(_anatomy_text(anatomy, conclusion, description, normal_by))
    return texts


def _anatomy_text(anatomy: Anatomy, conclusion: list[str], description: list[str], normal_by: str) -> AnatomyText:
    template = TEMPLATE.format(name=anatomy.name)
    said = [*conclusion, *description]
    labels = [sentence_verdict(sentence).label for sentence in said]
    abnormal = _normality(labels, is_concluded=bool(conclusion), normal_by=normal_by)
    # With a description and no conclusion, the template is part of the text's identity but is not read.
    text = " ".join(said if conclusion else [template, *said])
    if not said:
        return AnatomyText((template,), (False,), 1, NORMAL, text)
    return AnatomyText(tuple(said), tuple(label == "abnormal" for label in labels), 0, abnormal, text)


def _normality(labels: list[str], *, is_concluded: bool, normal_by: str) -> int:
    if normal_by == "conclusion":
        return ABNORMAL if is_concluded else NORMAL
    if "abnormal" in labels:
        return ABNORMAL
    return NORMAL if "normal" in labels or not labels else UNKNOWN
