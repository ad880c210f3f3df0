"""Labels for a cohort that lacks them: from a file, or read from its reports by rules. What a file says always wins."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ctclip.cohorts.cohort import Cohort
from ctclip.cohorts.table import parse_labels, read_arrow
from ctclip.errors import CohortError
from ctclip.findings import KNOWN_FINDINGS
from ctclip.reports.findings import label_reports

MIXED = "csv+rules"


def with_labels(
    cohort: Cohort, path: str | Path, *, findings: Sequence[str] | None = None, label_source: str = "csv"
) -> Cohort:
    """The cohort with its label columns taken from a file; they replace columns of the same name.

    Args:
        cohort: Any cohort.
        path: FILE.csv or FILE.parquet with a column `study` and label columns, or FILE.json, {study: {finding: 1}}.
            Values as in a cohort's table: 1, 0, -1 or blank. Studies without a row are unknown; rows of other studies
            are ignored and counted in the notes.
        findings: Label columns; without it, those with a name of ctclip.findings.KNOWN_FINDINGS.
        label_source: csv or human.

    Raises:
        CohortError: An unreadable file, a study twice, no label column, a value that is no label.
    """
    path = Path(path)
    table = _read_json(path) if path.suffix == ".json" else read_arrow(path)
    if "study" not in table.column_names:
        raise CohortError(f"column 'study' is missing; there are {table.column_names}", path=path)
    chosen = tuple(findings) if findings is not None else tuple(n for n in KNOWN_FINDINGS if n in table.column_names)
    missing = [name for name in chosen if name not in table.column_names]
    if missing or not chosen:
        raise CohortError(
            f"no label columns {missing or ''}; there are {table.column_names}. Name them with `findings`", path=path
        )
    studies = [str(study) for study in table["study"].to_pylist()]
    row_of = {study: row for row, study in enumerate(studies)}
    if len(row_of) != len(studies):
        raise CohortError(f"{len(studies) - len(row_of)} study ids stand twice; keep one row per study", path=path)
    rows = np.array([row_of.get(study, -1) for study in cohort.studies])
    labelled = cohort
    for name in chosen:
        values = np.append(parse_labels(table, name, path=path), np.int8(-1))[rows]
        labelled = _set_column(labelled, name, values)
    num_other = len(set(row_of) - set(cohort.studies))
    num_known = int((rows >= 0).sum())
    note = f"labels from {path.name}: {num_known} of {len(cohort)} studies have a row, {num_other} rows are of others"
    return replace(labelled, label_source=label_source, notes=(*cohort.notes, note))


def with_rule_labels(cohort: Cohort, findings: Sequence[str], *, closed: bool = False) -> Cohort:
    """The cohort with labels for these findings; those it lacks are read from its reports by rules.

    Args:
        cohort: Any cohort; columns it has are kept as they are.
        findings: Names of ctclip.findings.KNOWN_FINDINGS.
        closed: What a report does not mention is absent (CT-RATE's convention), not unknown.

    Raises:
        ReportError: A finding without rules.
    """
    lacking = [name for name in findings if name not in cohort.findings]
    if not lacking:
        return cohort
    values = label_reports(cohort.reports, lacking, closed=closed)
    labelled = cohort
    for column, name in enumerate(lacking):
        labelled = _set_column(labelled, name, values[:, column])
    source = MIXED if cohort.findings else "rules"
    return replace(labelled, label_source=source, notes=(*cohort.notes, f"{len(lacking)} findings labelled by rules"))


def _set_column(cohort: Cohort, name: str, values: np.ndarray) -> Cohort:
    column = pa.array(values.astype(np.int8))
    if name in cohort.table.column_names:
        table = cohort.table.set_column(cohort.table.column_names.index(name), name, column)
    else:
        table = cohort.table.append_column(name, column)
    findings = cohort.findings if name in cohort.findings else (*cohort.findings, name)
    return replace(cohort, table=table, findings=findings)


def _read_json(path: Path) -> pa.Table:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CohortError(f"the labels cannot be read: {error}", path=path) from error
    if not isinstance(document, dict) or not all(isinstance(row, dict) for row in document.values()):
        raise CohortError('labels in JSON have the form {"study": {"finding": 1, ...}, ...}', path=path)
    names = list(dict.fromkeys(name for row in document.values() for name in row))
    columns = {name: [_cell(row.get(name)) for row in document.values()] for name in names}
    return pa.table({"study": pa.array(document.keys(), pa.string())} | columns)


def _cell(value: object) -> str | None:
    return None if value is None else str(value)
