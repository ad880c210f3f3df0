"""A cohort from one CSV or Parquet table: columns study, patient, path, report, split, and label columns.

Paths are relative to the table's folder. A column named after a known finding, or given by `findings`, is a label:
1, 0, -1 or blank (unknown). A column `synthetic` (or `phantom`) of 1 or true marks a cohort without patients. All
other columns ride along.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from ctclip.cohorts.cohort import REQUIRED_COLUMNS, UNIT_PREFIX, Cohort, make_cohort
from ctclip.errors import CohortError
from ctclip.findings import KNOWN_FINDINGS

SYNTHETIC_COLUMNS = ("synthetic", "phantom")
_LABELS = {"": -1, "nan": -1, "-1": -1, "-1.0": -1, "0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


def read_table(
    path: str | Path, *, findings: Sequence[str] | None = None, name: str | None = None, label_source: str = "csv"
) -> Cohort:
    """Read a table of studies.

    Args:
        path: FILE.csv (UTF-8, with a header line) or FILE.parquet.
        findings: Label columns. Without it, every column that bears a name of ctclip.findings.KNOWN_FINDINGS.
        name: Name of the cohort; the file's stem without it.
        label_source: human | csv | rules | truth: where the labels come from.

    Raises:
        CohortError: Anything `make_cohort` refuses; a label outside 1, 0, -1 and blank; an unreadable file.

    Example:
        >>> cohort = read_table("studies.csv")  # doctest: +SKIP
        >>> cohort.split("test").labels()  # (N, F) int8  # doctest: +SKIP
    """
    path = Path(path)
    table = read_arrow(path)
    chosen = tuple(findings) if findings is not None else tuple(n for n in KNOWN_FINDINGS if n in table.column_names)
    missing = [column for column in (*REQUIRED_COLUMNS, *chosen) if column not in table.column_names]
    if missing:
        raise CohortError(f"columns {missing} are missing; the table has {table.column_names}", path=path)
    for column in REQUIRED_COLUMNS:
        table = _replace(table, column, pa.array(_strings(table, column, path), pa.string()))
    units = [column for column in table.column_names if column.startswith(UNIT_PREFIX)]
    for column in (*chosen, *units):
        table = _replace(table, column, pa.array(parse_labels(table, column, path=path)))
    table = _replace(table, "path", pa.array([_absolute(cell, path.parent) for cell in table["path"].to_pylist()]))
    synthetic = _is_synthetic(table, path)
    return make_cohort(
        table, name=name or path.stem, findings=chosen, synthetic=synthetic, label_source=label_source, path=path
    )


def write_table(cohort: Cohort, path: str | Path) -> None:
    """Write a cohort as a table that `read_table` and `ctload pack` read.

    Paths are written relative to the table where the volume lies beside or below it, else absolute. Labels that are
    unknown are written as -1; a synthetic cohort gets a column that says so.

    Raises:
        CohortError: A suffix other than .csv and .parquet.
    """
    path = Path(path)
    folder = path.absolute().parent
    places = [place.relative_to(folder) if place.is_relative_to(folder) else place for place in cohort.paths]
    table = _replace(cohort.table, "path", pa.array([place.as_posix() for place in places], pa.string()))
    if cohort.synthetic and not set(SYNTHETIC_COLUMNS) & set(table.column_names):
        table = table.append_column("synthetic", pa.array([1] * len(cohort), pa.int8()))
    if path.suffix == ".parquet":
        pa_parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        raise CohortError(f"a table is .csv or .parquet, not {path.suffix!r}", path=path)


def read_arrow(path: Path) -> pa.Table:
    """A CSV (every column as strings, blank cells null) or Parquet file (types as stored).

    Raises:
        CohortError: No such file, another kind of file, a column name twice, or bytes that do not parse.
    """
    if not path.is_file():
        raise CohortError("no such table; give a .csv or .parquet file", path=path)
    if path.suffix not in (".csv", ".parquet"):
        raise CohortError(f"a table is .csv or .parquet, not {path.suffix or 'a file without suffix'!r}", path=path)
    try:
        table = pa_parquet.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise CohortError(f"the table cannot be read: {error}", path=path) from error
    twice = sorted({column for column in table.column_names if table.column_names.count(column) > 1})
    if twice:
        raise CohortError(f"columns {twice} stand more than once; name each column once", path=path)
    return table


def parse_labels(table: pa.Table, column: str, *, path: str | Path) -> np.ndarray:
    """(N,) int8 of a label column: 1, 0, -1; blank and NaN are -1.

    Raises:
        CohortError: Other values, with their count, the first study and the way out.
    """
    values = table[column].to_pylist()
    codes = [_LABELS.get("" if value is None else str(value).strip().lower()) for value in values]
    wrong = [row for row, code in enumerate(codes) if code is None]
    if wrong:
        examples = sorted({str(values[row]) for row in wrong})[:3]
        study = str(table["study"][wrong[0]].as_py()) if "study" in table.column_names else None
        raise CohortError(
            f"column {column!r} has {len(wrong)} of {len(values)} values that are no label, such as {examples}; "
            "write 1 (present), 0 (absent), -1 or nothing (unknown)",
            study=study,
            path=path,
        )
    return np.array(codes, np.int8)


def _read_csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise CohortError("the file is empty; its first line names the columns", path=path)
    return pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=64 << 20),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )


def _strings(table: pa.Table, column: str, path: Path) -> list[str | None]:
    values = table[column].to_pylist()
    if any(value is not None and not isinstance(value, str | int) for value in values):
        raise CohortError(f"column {column!r} holds {table[column].type}; it needs strings", path=path)
    return [None if value is None else str(value).strip() for value in values]


def _is_synthetic(table: pa.Table, path: Path) -> bool:
    marks: set[int] = set()
    for column in SYNTHETIC_COLUMNS:
        if column in table.column_names:
            marks |= set(parse_labels(table, column, path=path).tolist())
    if len(marks) > 1:
        raise CohortError("the table mixes synthetic and real studies; make it two tables", path=path)
    return marks == {1}


def _absolute(cell: str | None, folder: Path) -> str | None:
    return None if not cell else str((folder / cell).absolute())


def _replace(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)
