"""The text of a unit with its normal sentences left out of abnormal texts, as OFF-CLIP filters its reports.

A text as written enters; sentences, the unit's normality and the text of one access leave. The authors let a language
model and a trained classifier do the work (arXiv 2503.01794, figure 2); here a splitter and rules do it. The draw of a
sentence is a function of its coordinates.
"""

from dataclasses import dataclass
from typing import Literal

from ctclip.reports.normality import ABNORMAL, NORMAL, Verdict, report_normality
from ctclip.reports.sentences import Sentence
from ctclip.texts.text_access import TextAccess

NO_FINDING = "There is no finding."


@dataclass(frozen=True)
class KeptSentences:
    """What is read of one unit.

    Attributes:
        sentences: At least one, in the order of the text, each with the heading it stands under.
        abnormal: 1, 0, or -1 where neither rules nor labels know.
        num_left_out: Normal and neutral sentences that an abnormal text lost.
    """

    sentences: tuple[Sentence, ...]
    abnormal: int
    num_left_out: int


def keep_sentences(text: str, *, abnormal: int | None = None, is_report: bool = True) -> KeptSentences:
    """The sentences of a unit that are read, and its normality.

    An abnormal text keeps its abnormal sentences alone; a normal one its normal sentences; one of which nothing is
    known keeps all. Nothing is ever left empty: an abnormal text without a sentence that rules find abnormal keeps
    all, a normal one without a sentence that they find normal becomes "There is no finding.".

    Args:
        text: As written.
        abnormal: 1, 0 or -1 of a table of labels, which wins over the rules; None where there is none.
        is_report: A whole report, whose technique and history are left out; False for a section.
    """
    found = report_normality(text, cut=is_report)
    label = found.label if abnormal is None else abnormal
    verdicts = _with_headings(found.verdicts)
    wanted = {ABNORMAL: "abnormal", NORMAL: "normal"}.get(label)
    kept = tuple(sentence for sentence, verdict in verdicts if wanted in (None, verdict.label))
    if kept:
        return KeptSentences(kept, label, len(verdicts) - len(kept))
    if label == NORMAL or not text.strip():
        return KeptSentences((Sentence(NO_FINDING, ""),), label, len(verdicts))
    everything = tuple(sentence for sentence, _ in verdicts)
    return KeptSentences(everything or (Sentence(text.strip(), ""),), label, 0)


def read_text(kept: KeptSentences, mode: Literal["one_sentence", "all"], access: TextAccess) -> str:
    """The text of one access: all kept sentences in order, or one of them drawn evenly.

    Args:
        kept: Of the unit.
        mode: "one_sentence" draws.
        access: From which it draws.
    """
    if mode == "one_sentence":
        return _headed(kept.sentences[access.key("sentence") % len(kept.sentences)])
    parts, heading = [], ""
    for sentence in kept.sentences:
        parts.append(_headed(sentence) if sentence.heading != heading else sentence.text)
        heading = sentence.heading
    return " ".join(parts)


def _with_headings(verdicts: tuple[tuple[Sentence, Verdict], ...]) -> list[tuple[Sentence, Verdict]]:
    """Every sentence with the heading it stands under, which may stand before an earlier one."""
    headed, heading = [], ""
    for sentence, verdict in verdicts:
        heading = sentence.heading or heading
        headed.append((Sentence(sentence.text, heading), verdict))
    return headed


def _headed(sentence: Sentence) -> str:
    return f"{sentence.heading}: {sentence.text}" if sentence.heading else sentence.text
