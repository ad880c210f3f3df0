"""Tables of sources: a CSV or Parquet file in, one PackSource per row out.

Columns: `study` (unique id), `path` (relative to the table, or absolute); if wanted `unit`, and `channel:NAME` or
`label:NAME` with the path of a further channel or a label map on the same grid. Every other column is carried into
the manifest, but for PRIVATE ones: a store holds no text and no patient id; join them from the table when you read.
"""

import csv
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ctload.errors import ManifestError
from ctload.readers.ct_rate import Correction
from ctload.readers.volume import UNITS
from ctload.storage.manifest import SCHEMA

SUFFIXES = (".csv", ".parquet")
PRIVATE = ("patient", "report")
# Columns of a scan table that are text.
SCAN_TEXTS = (
    "series", "patient", "modality", "description", "kernel", "phase", "code", "reason", "kind", "source", "study_uid",
    "series_uid", "patient_id", "accession", "study_date",
)  # fmt: skip
CHANNEL = "channel:"
LABEL = "label:"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class PackSource:
    """One study to be packed.

    Attributes:
        study: Its id.
        relative: Its path relative to what was given to pack; only its keyed hash enters the store.
        path: Where it is.
        unit: What its values are; None means HU and refuses what cannot be HU.
        channels, labels: Name -> path of further channels and label maps.
        extra: Values of carried columns; None when no table named it, which leaves those the store has.
        series: Id of the DICOM series to take; "" for the only one.
        files: Names below `path` of the files of that series; empty means all.
        resample_irregular: Whether tilt and varying gaps are to be corrected.
        correction: Rescale and affine in place of a NIfTI header's.
        left_out: What the choice of this series left out of its study, one sentence each.
    """

    study: str
    relative: str
    path: Path
    unit: str | None = None
    channels: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[str, Path] = field(default_factory=dict)
    extra: Mapping[str, Any] | None = None
    series: str = ""
    files: tuple[str, ...] = ()
    resample_irregular: bool = False
    correction: Correction | None = None
    left_out: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Every file or folder that it is made of."""
        return [self.path, *self.channels.values(), *self.labels.values()]


def read_source_table(path: Path, *, unit: str | None = None) -> list[PackSource]:
    """The sources that a table names, in its order.

    Args:
        path: The table.
        unit: Unit of rows without one.

    Raises:
        ManifestError: No such file, no table, a missing or reserved column, an empty cell, or a study id twice.
    """
    rows = read_rows(path)
    names = list(rows[0]) if rows else []
    taken = sorted(name for name in set(names) & set(SCHEMA.names) if not _is_own(name))
    if taken:
        raise ManifestError(f"the column names {', '.join(taken)} are taken by the manifest; rename them", path=path)
    _check_unique(rows, path)
    return [_source(row, path, unit) for row in rows]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table with the columns study and path, as plain values, none of these two empty.

    Raises:
        ManifestError: No such file, no table, a missing column, an empty cell, or a unit that is none.
    """
    table = _read(path)
    for name in ("study", "path"):
        if name not in table.column_names:
            raise ManifestError(
                f"the table has no column {name!r}; it needs study and path, it has {', '.join(table.column_names)}",
                path=path,
            )
    columns = {name: _plain(table[name], as_text=_is_text(name)) for name in table.column_names}
    rows = pa.table(columns).to_pylist()
    _check_rows(rows, path)
    return rows


def beside(row: Mapping[str, Any], table: Path, prefix: str) -> dict[str, Path]:
    """Name -> path of the columns `prefix`NAME of a row that are filled in."""
    names = sorted(name for name in row if name.startswith(prefix) and row[name])
    return {name.removeprefix(prefix): table.parent / row[name] for name in names}


def carried(row: Mapping[str, Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """The values of a row that go into the manifest."""
    return {name: value for name, value in row.items() if not _is_own(name) and name not in (*PRIVATE, *without)}


def _is_own(name: str) -> bool:
    return name in ("study", "path", "unit") or name.startswith((CHANNEL, LABEL))


def _is_text(name: str) -> bool:
    """Whether a column holds text whatever it looks like: an id such as 12e4567890123456 is no number."""
    return _is_own(name) or name in SCAN_TEXTS


def _read(path: Path) -> pa.Table:
    try:
        return _read_csv(path) if path.suffix.lower() == ".csv" else pyarrow.parquet.read_table(path)
    except FileNotFoundError as error:
        raise ManifestError("no such table", path=path) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"this is no {path.suffix} table ({error})", path=path) from error


def _read_csv(path: Path) -> pa.Table:
    """A CSV file whose columns are numbers only where the text says no more than the number: "007" stays text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
    table = pyarrow.csv.read_csv(
        path,
        # A report has lines of its own; Arrow joins a cell across its blocks only when told that there are such.
        read_options=pyarrow.csv.ReadOptions(block_size=64 << 20),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )
    if len(set(table.column_names)) != len(table.column_names):
        raise ManifestError(f"a column name stands twice in {', '.join(table.column_names)}; rename one", path=path)
    return pa.table(
        {name: table[name] if _is_text(name) else _number_if_plain(table[name]) for name in table.column_names}
    )


def _number_if_plain(text: pa.ChunkedArray) -> pa.ChunkedArray:
    values = [value for value in text.to_pylist() if value is not None]
    for pattern, kind in ((_WHOLE, pa.int64()), (_DECIMAL, pa.float64())):
        if values and all(pattern.fullmatch(value) for value in values):
            return text.cast(kind)
    return text


def _plain(column: pa.ChunkedArray, *, as_text: bool) -> pa.ChunkedArray:
    """The column as text, whole numbers, floats or booleans; anything else (dates, categories) becomes text."""
    kind = column.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return column if plain and not as_text else column.cast(pa.string())


def _check_rows(rows: list[dict[str, Any]], path: Path) -> None:
    for number, row in enumerate(rows, start=1):
        if row.get("unit") and row["unit"] not in UNITS:
            message = f"row {number} has the unit {row['unit']!r}; it must be one of {', '.join(UNITS)}, or empty"
            raise ManifestError(message, study=row["study"], path=path)
        for name in ("study", "path"):
            if not row[name]:
                raise ManifestError(f"row {number} has no {name}; fill it in or remove the row", path=path)


def _check_unique(rows: list[dict[str, Any]], path: Path) -> None:
    first_at: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if row["study"] in first_at:
            raise ManifestError(
                f"rows {first_at[row['study']]} and {number} have the same study id; one study is one row",
                study=row["study"],
                path=path,
            )
        first_at[row["study"]] = number


def _source(row: dict[str, Any], table: Path, unit: str | None) -> PackSource:
    return PackSource(
        study=row["study"],
        relative=row["path"],
        path=table.parent / row["path"],
        unit=row.get("unit") or unit,
        channels=beside(row, table, CHANNEL),
        labels=beside(row, table, LABEL),
        extra=carried(row),
    )
