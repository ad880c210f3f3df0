"""Is a clause, a sentence, a section, a report normal? Rules only; a table of labels, where there is one, wins.

The rules are numbered where they are applied, in the order in which the first match decides. A verdict says which
words decided it, so that a reader can follow every one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ctclip.reports import lexicon, polarity
from ctclip.reports.sections import cut_impression
from ctclip.reports.sentences import Sentence, split_clauses, split_sentences

NORMAL, ABNORMAL, UNKNOWN = 0, 1, -1
MIN_COVERAGE = 0.8  # below it, rules know too little of these reports to fill a quota

_HARD = lexicon.compiled(lexicon.HARD_STEMS)
_SOFT = lexicon.compiled(lexicon.SOFT_STEMS)
_PREDICATE = lexicon.compiled(lexicon.NORMAL_PREDICATES, whole=True)
_TECHNIQUE = lexicon.compiled(lexicon.TECHNIQUE)
_EXISTENCE = lexicon.compiled(lexicon.EXISTENCE)
_NO_ENLARGING = re.compile(
    r"\b(?:no|without|nor)\b(?:\W+[\w-]+){0,4}?\W+(?:increase\w*|thicken\w*|enlarge\w*|dilat\w*|widening|swelling)",
    re.I,
)
_NOT_FORWARD = re.compile(
    r"\b(?:no|without|absence of|lack of|free of|free from|negative for|neither|nor|none)\b", re.I
)
_SURGICALLY_ABSENT = re.compile(
    r"\bsurgically absent|\babsent (?:due|following|after|status)|"
    r"\bhas been (?:removed|resected)|\bnot (?:observed|seen|visuali[sz]ed|identified)\W+(?:operated|resected|removed|"
    r"(?:secondary|due) to (?:the |an? |previous |prior )*(?:operation|surgery|resection))",
    re.I,
)
_SHORT_SENTENCE = 12  # words


@dataclass(frozen=True)
class Verdict:
    """What the rules make of a clause or a sentence.

    Attributes:
        label: "normal", "abnormal", "neutral" (states neither), or "unknown" (clauses only).
        confidence: 1.0 when a rule decided, 0.5 when only the form of the sentence speaks for abnormal, 0 for unknown.
        rule: Number and name of the rule that decided.
        cues: The words that matched.
    """

    label: str
    confidence: float
    rule: str
    cues: tuple[str, ...] = ()

    @property
    def is_decided(self) -> bool:
        return self.confidence == 1.0


@dataclass(frozen=True)
class ReportNormality:
    """Normality of one text unit: 1 abnormal, 0 normal, -1 unknown, and how much of it the rules decided.

    Attributes:
        label: 1 when any sentence is abnormal, else 0 when any is normal, else -1.
        verdicts: One per sentence, beside the sentence.
        coverage: Share of sentences that a rule decided, 0 to 1; NaN for a text without sentences.
    """

    label: int
    verdicts: tuple[tuple[Sentence, Verdict], ...]
    coverage: float


def section_normality(text: str) -> int:
    """1 abnormal, 0 normal, -1 unknown (an empty section, or only technique and advice)."""
    return report_normality(text, cut=False).label


def report_normality(text: str, *, cut: bool = True) -> ReportNormality:
    """Normality of a report or a section, sentence by sentence.

    Args:
        text: As written, or in cleaned form.
        cut: Leave out technique, history and their like; False takes every sentence.
    """
    if cut:
        text = "\n".join(part for part in cut_impression(text) if part)
    verdicts = tuple((sentence, sentence_verdict(sentence.text)) for sentence in split_sentences(text))
    labels = {verdict.label for _, verdict in verdicts}
    label = ABNORMAL if "abnormal" in labels else NORMAL if "normal" in labels else UNKNOWN
    decided = sum(verdict.is_decided for _, verdict in verdicts)
    return ReportNormality(label, verdicts, decided / len(verdicts) if verdicts else float("nan"))


def coverage(reports: Iterable[ReportNormality]) -> float:
    """Share of all sentences of these reports that a rule decided; NaN without sentences."""
    verdicts = [verdict for report in reports for _, verdict in report.verdicts]
    return sum(verdict.is_decided for verdict in verdicts) / len(verdicts) if verdicts else float("nan")


@lru_cache(maxsize=65536)
def sentence_verdict(sentence: str) -> Verdict:
    """Verdict on one sentence without its heading. Any abnormal clause makes it abnormal."""
    verdicts = [clause_verdict(clause) for clause in split_clauses(sentence)]
    for label in ("abnormal", "normal"):
        deciding = [verdict for verdict in verdicts if verdict.label == label]
        if deciding:
            cues = tuple(cue for verdict in deciding for cue in verdict.cues)
            return Verdict(label, 1.0, deciding[0].rule, cues)
    decided = [verdict for verdict in verdicts if verdict.label == "neutral"]
    if decided:
        return decided[0]
    existence = _EXISTENCE.search(sentence)
    if existence or len(sentence.split()) <= _SHORT_SENTENCE:
        return Verdict("abnormal", 0.5, "existence", (existence.group(),) if existence else ())
    return Verdict("neutral", 0.0, "nothing known")


@lru_cache(maxsize=65536)
def clause_verdict(clause: str) -> Verdict:
    """Verdict on one clause; the first rule that matches decides."""
    left, compares = polarity.without_comparison(clause)  # rules 1 and 2
    if compares and not _says_anything(left):
        hard = _HARD.search(clause)
        return _verdict("abnormal" if hard else "neutral", "2 comparison", hard)
    return (
        _rule_3_to_5(left)
        or _rule_6_and_7(left)
        or _rule_8_and_9(left)
        or _verdict_if(_TECHNIQUE.search(left), "neutral", "10 technique or advice")
        or Verdict("unknown", 0.0, "no rule")
    )


def _rule_3_to_5(clause: str) -> Verdict | None:
    if match := _NO_ENLARGING.search(clause):
        before = _HARD.search(clause, 0, match.start())
        if not before:
            return _verdict("normal", "3 no enlarging", match)
    not_excluded = polarity.NOT_EXCLUDED.search(clause)
    if not not_excluded and (match := polarity.CANNOT_JUDGE.search(clause)):
        before = _HARD.search(clause, 0, match.start())
        return _verdict("abnormal" if before else "neutral", "4 cannot be judged", before or match)
    if not_excluded:
        return _verdict("abnormal", "5 not excluded", not_excluded)
    if match := _SURGICALLY_ABSENT.search(clause):
        return _verdict("abnormal", "5 surgically absent", match)
    if match := polarity.ODD.search(clause):
        denied = polarity.DENIED_ABNORMAL.search(clause) or polarity.BACKWARD.search(clause, match.end())
        return _verdict("normal" if denied else "abnormal", "5 departs from normal", match)
    return None


def _rule_6_and_7(clause: str) -> Verdict | None:
    if match := polarity.BACKWARD.search(clause):
        hard = _HARD.search(clause, 0, match.start())
        if hard and polarity.denial_after(clause, hard.start()) is None:
            return _verdict("abnormal", "6 denied of a finding", hard)
        return _verdict("normal", "6 denied after", match)
    cue = polarity.FORWARD.search(clause)
    if cue is None:
        return None
    before = _HARD.search(clause, 0, cue.start())
    if before and _NOT_FORWARD.match(cue.group()):
        return _verdict("abnormal", "7 finding before the denial", before)
    return _verdict("normal", "7 denied before", cue)


def _rule_8_and_9(clause: str) -> Verdict | None:
    hard = _HARD.search(clause)
    predicate = _PREDICATE.search(clause)
    if predicate and not hard:
        return _verdict("normal", "8 normal predicate", predicate)
    return _verdict_if(hard, "abnormal", "9 finding")


def _says_anything(clause: str) -> bool:
    patterns = (_HARD, _PREDICATE, polarity.FORWARD, polarity.BACKWARD, _SOFT)
    return any(pattern.search(clause) for pattern in patterns)


def _verdict(label: str, rule: str, match: re.Match[str] | None) -> Verdict:
    return Verdict(label, 1.0, rule, (match.group().strip(),) if match else ())


def _verdict_if(match: re.Match[str] | None, label: str, rule: str) -> Verdict | None:
    return _verdict(label, rule, match) if match else None
