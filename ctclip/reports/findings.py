"""Which findings a report affirms, denies, or does not mention. Rules; labels from a table always win over them.

The rules are data (ctclip.reports.finding_rules); this file applies them clause by clause.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctclip.errors import ReportError
from ctclip.reports import polarity
from ctclip.reports.anatomy import route_report
from ctclip.reports.finding_rules import RULES, FindingRule
from ctclip.reports.sentences import split_clauses

PRESENT, ABSENT, NOT_MENTIONED = 1, 0, -1


@dataclass(frozen=True)
class Mention:
    """One clause that speaks of a finding, and whether it affirms it."""

    finding: str
    clause: str
    is_affirmed: bool


def extract_findings(text: str, findings: Sequence[str], *, closed: bool = False) -> dict[str, int]:
    """What a report says of each finding: 1 affirmed at least once, 0 only denied, -1 not mentioned.

    Args:
        text: A report or a section, as written or in cleaned form.
        findings: Names of ctclip.findings.KNOWN_FINDINGS.
        closed: Take what is not mentioned as absent (0): the convention of CT-RATE's labels.

    Raises:
        ReportError: A finding without rules.
    """
    labels = dict.fromkeys(findings, ABSENT if closed else NOT_MENTIONED)
    for mention in find_mentions(text, findings):
        labels[mention.finding] = max(labels[mention.finding], PRESENT if mention.is_affirmed else ABSENT)
    return labels


def label_reports(texts: Iterable[str], findings: Sequence[str], *, closed: bool = False) -> np.ndarray:
    """(N, F) int8 of `extract_findings`."""
    rows = [list(extract_findings(text, findings, closed=closed).values()) for text in texts]
    return np.array(rows, np.int8).reshape(len(rows), len(findings))


def find_mentions(text: str, findings: Sequence[str]) -> list[Mention]:
    """Every clause of a report that speaks of one of the findings, in order.

    Raises:
        ReportError: A finding without rules.
    """
    unknown = [name for name in findings if name not in RULES]
    if unknown:
        raise ReportError(f"no rules for findings {unknown}; give labels in the table, rules exist for {sorted(RULES)}")
    mentions = []
    for sentence, anatomies in route_report(text):
        for name in findings:
            mentions.extend(_mentions_in(sentence.text, name, anatomies))
    return mentions


@lru_cache(maxsize=262144)
def _mentions_in(sentence: str, finding: str, anatomies: tuple[str, ...]) -> tuple[Mention, ...]:
    return tuple(
        mention
        for rule in RULES[finding]
        if rule.term.search(sentence)
        for mention in _rule_mentions(rule, sentence, finding, anatomies)
    )


def _rule_mentions(rule: FindingRule, sentence: str, finding: str, anatomies: tuple[str, ...]) -> list[Mention]:
    if rule.veto is not None and rule.veto.search(sentence):
        return []
    if rule.anatomies is not None and not set(anatomies) & set(rule.anatomies):
        return []
    mentions = []
    for clause in _clauses(sentence):
        if rule.where is not None and not rule.where.search(clause):
            continue
        if rule.veto_clause is not None and rule.veto_clause.search(clause):
            continue
        starts = [_core_start(match) for match in rule.term.finditer(clause)]
        mentions.extend(Mention(finding, clause, polarity.is_affirmed(clause, start)) for start in starts)
    return mentions


def _core_start(match: re.Match[str]) -> int:
    """Where the affirmed word stands: a group `core*` of a term that spans several words, else the whole match."""
    starts = [match.start(name) for name, text in match.groupdict().items() if text is not None]
    return starts[0] if starts else match.start()


@lru_cache(maxsize=65536)
def _clauses(sentence: str) -> tuple[str, ...]:
    return tuple(polarity.without_comparison(clause)[0] for clause in split_clauses(sentence))
