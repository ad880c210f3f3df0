"""Report texts from a file, with the labels beside them if there are any: .txt, .jsonl, .csv or .parquet."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctclip.cohorts.table import parse_labels, read_arrow
from ctclip.errors import ReportError
from ctclip.findings import KNOWN_FINDINGS
from ctclip.reports.sections import join_ct_rate

TEXT_COLUMNS = ("report", "report_text", "text", "findings", "Findings")
ID_COLUMNS = ("study", "study id", "study_id", "VolumeName", "AccessionNo", "id")
CT_RATE_COLUMNS = ("Findings_EN", "Impressions_EN")


@dataclass(frozen=True)
class ReportTexts:
    """Texts in the order of the file.

    Attributes:
        names: Study ids, or line numbers where the file has none.
        texts: One per name, blank ones left out.
        findings: Names of the label columns.
        labels: (N, F) int8, columns as in `findings`.
        num_blank: Rows without a text.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    findings: tuple[str, ...]
    labels: np.ndarray
    num_blank: int


def read_reports(path: str | Path, *, column: str | None = None) -> ReportTexts:
    """Read the reports of a file.

    Args:
        path: FILE.txt is one report. FILE.jsonl has an object a line. FILE.csv and FILE.parquet have a row a study; a
            table with CT-RATE's columns Findings_EN and Impressions_EN gives both in one text.
        column: Where the text stands; without it one of TEXT_COLUMNS.

    Raises:
        ReportError: No such file, another kind of file, no such column, no text at all.
        CohortError: A table that cannot be read, or a label column of other values.
    """
    path = Path(path)
    if not path.is_file():
        raise ReportError("no such file; give a .txt, .jsonl, .csv or .parquet file of reports", path=path)
    if path.suffix == ".txt":
        return _whole((path.stem,), (_read_text(path),), path)
    if path.suffix == ".jsonl":
        return _read_lines(path, column)
    if path.suffix in (".csv", ".parquet"):
        return _read_table(path, column)
    raise ReportError(f"reports are read from .txt, .jsonl, .csv or .parquet, not from {path.suffix!r}", path=path)


def _whole(names: tuple[str, ...], texts: tuple[str | None, ...], path: Path) -> ReportTexts:
    return _without_blanks(names, texts, (), np.zeros((len(texts), 0), np.int8), path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"the file is not UTF-8 text: {error}; convert it first", path=path) from error


def _read_lines(path: Path, column: str | None) -> ReportTexts:
    try:
        rows = [json.loads(line) for line in _read_text(path).splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ReportError(f"a line is no JSON: {error}", path=path) from error
    if not all(isinstance(row, dict) for row in rows):
        raise ReportError("every line needs to be a JSON object", path=path)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text_key = _choose(keys, column, path)
    id_key = next((key for key in ID_COLUMNS if key in keys), None)
    names = tuple(str(row.get(id_key)) if id_key else str(number) for number, row in enumerate(rows, 1))
    return _whole(names, tuple(row.get(text_key) for row in rows), path)


def _read_table(path: Path, column: str | None) -> ReportTexts:
    table = read_arrow(path)
    columns = table.column_names
    id_column = next((name for name in ID_COLUMNS if name in columns), None)
    count = range(1, table.num_rows + 1)
    names = tuple(str(name) for name in (table[id_column].to_pylist() if id_column else count))
    if column is None and set(CT_RATE_COLUMNS) <= set(columns):
        pairs = zip(*(table[name].to_pylist() for name in CT_RATE_COLUMNS), strict=True)
        texts = tuple(join_ct_rate(findings or "", impression or "") for findings, impression in pairs)
    else:
        texts = tuple(table[_choose(columns, column, path)].to_pylist())
    findings = tuple(name for name in KNOWN_FINDINGS if name in columns)
    labels = [parse_labels(table, name, path=path) for name in findings]
    stacked = np.stack(labels, axis=1) if labels else np.zeros((len(texts), 0), np.int8)
    return _without_blanks(names, texts, findings, stacked, path)


def _choose(columns: list[str], column: str | None, path: Path) -> str:
    wanted = (column,) if column is not None else TEXT_COLUMNS
    found = next((name for name in wanted if name in columns), None)
    if found is None:
        raise ReportError(f"no column {' or '.join(wanted)} with report texts; there are {columns}", path=path)
    return found


def _without_blanks(
    names: tuple[str, ...], texts: tuple[str | None, ...], findings: tuple[str, ...], labels: np.ndarray, path: Path
) -> ReportTexts:
    kept = [row for row, text in enumerate(texts) if text is not None and str(text).strip()]
    if not kept:
        raise ReportError("the file has no report text", path=path)
    return ReportTexts(
        tuple(names[row] for row in kept),
        tuple(str(texts[row]) for row in kept),
        findings,
        labels[kept],
        len(texts) - len(kept),
    )
