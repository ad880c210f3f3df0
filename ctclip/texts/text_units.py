"""Text units: what the text tower reads of a study, as full report or as one organ section.

Reports enter; cleaned texts leave, and the columns by which a sampler knows which studies have a text in a unit and
which are normal there. This file knows nothing of voxels or tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from ctclip.cohorts.cohort import UNIT_PREFIX, Cohort
from ctclip.errors import ReportError
from ctclip.reports.normality import MIN_COVERAGE, coverage, report_normality, section_normality
from ctclip.reports.sections import clean_text, split_sections

FULL = "report"
TEXT, ABNORMAL = "text", "abnormal"  # prefixes of the joined columns: "text:liver", "abnormal:liver"


@dataclass(frozen=True)
class TextUnits:
    """Cleaned texts of studies by unit.

    Attributes:
        units: Names, the full report first.
        texts: texts[unit][study]; studies without a text in the unit are absent.
    """

    units: tuple[str, ...]
    texts: Mapping[str, Mapping[str, str]]

    def of(self, studies: Sequence[str], unit: str) -> list[str]:
        """The texts of a unit, one per study.

        Raises:
            ReportError: A study has no text in this unit; the sampler was not bound to the joined columns.
        """
        known = self.texts[unit]
        for study in studies:
            if study not in known:
                raise ReportError(f"has no text in unit {unit!r} and cannot be drawn for it", study=study)
        return [known[study] for study in studies]

    def digest(self, study: str) -> str:
        """Of a study's texts in every unit, xxh3_64 in hex."""
        return xxhash.xxh3_64_hexdigest(repr([self.texts[unit].get(study) for unit in self.units]).encode())

    def all_texts(self) -> list[str]:
        """Every text once, unit after unit."""
        return [text for unit in self.units for text in self.texts[unit].values()]


def make_text_units(cohort: Cohort, sections: Sequence[str]) -> TextUnits:
    """The full report and the named sections of every study, in the form the tokenizer sees.

    Args:
        cohort: Its reports are read.
        sections: Names of ctclip.reports.sections.SECTIONS.

    Raises:
        ReportError: A section of another name, or studies without a report.
    """
    _check_reports(cohort)
    split = {study: split_sections(report) for study, report in zip(cohort.studies, cohort.reports, strict=True)}
    known = next(iter(split.values()))
    unknown = [section for section in sections if section not in known]
    if unknown:
        raise ReportError(f"no section is called {unknown[0]!r}; there are {', '.join(known)}")
    texts = {FULL: {study: clean_text(report) for study, report in zip(cohort.studies, cohort.reports, strict=True)}}
    for section in sections:
        parts = {study: clean_text(parts[section]) for study, parts in split.items()}
        texts[section] = {study: part for study, part in parts.items() if part}
    return TextUnits((FULL, *sections), texts)


def text_columns(cohort: Cohort, texts: TextUnits, *, is_normality_needed: bool) -> pa.Table:
    """Columns for Studies.join: study, "texts", "text:<unit>" and, where needed, "abnormal:<unit>".

    "texts" is a digest of all the study's texts, so that a resumed run notices an edited report. The others are int8:
    "text:<unit>" is 1 where the study has a text in the unit, else -1. "abnormal:<unit>" is 1, 0, or -1 where it is
    unknown or there is no text: the cohort's own column where it states one, else by rules on the text.

    Raises:
        ReportError: Rules are needed and decide less than MIN_COVERAGE of the cohort's sentences.
    """
    columns: dict[str, object] = {"study": cohort.studies, "texts": [texts.digest(name) for name in cohort.studies]}
    for unit in texts.units:
        has_text = np.array([study in texts.texts[unit] for study in cohort.studies])
        columns[f"{TEXT}:{unit}"] = np.where(has_text, 1, -1).astype(np.int8)
        if is_normality_needed:
            columns[f"{ABNORMAL}:{unit}"] = np.where(has_text, _normality(cohort, texts, unit), -1).astype(np.int8)
    if is_normality_needed:
        _check_coverage(cohort, texts)
    return pa.table(columns)


def _normality(cohort: Cohort, texts: TextUnits, unit: str) -> np.ndarray:
    """(N,) int8."""
    if unit in cohort.units:
        return cohort.normality(unit)
    if unit == FULL:
        return np.array([report_normality(report).label for report in cohort.reports], np.int8)
    return np.array([section_normality(texts.texts[unit].get(study, "")) for study in cohort.studies], np.int8)


def _check_reports(cohort: Cohort) -> None:
    empty = [study for study, text in zip(cohort.studies, cohort.reports, strict=True) if not clean_text(text)]
    if empty:
        raise ReportError(
            f"{len(empty)} of {len(cohort)} studies have no report; a cohort without reports can be evaluated, not "
            "trained on: fill column report, or take the rows out",
            study=empty[0],
        )


def _check_coverage(cohort: Cohort, texts: TextUnits) -> None:
    by_rules = [unit for unit in texts.units if unit not in cohort.units]
    if not by_rules:
        return
    share = coverage(report_normality(report) for report in cohort.reports)
    if not share >= MIN_COVERAGE:
        raise ReportError(
            f"rules decide only {share:.0%} of this cohort's sentences, fewer than {MIN_COVERAGE:.0%}: too few to fill "
            f"quotas of normal and abnormal. State columns {UNIT_PREFIX}{by_rules[0]} and so on in the table, or use "
            "the shuffle sampler"
        )
