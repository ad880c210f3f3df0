"""The table of series on disk: what `ctload scan` writes, a user edits, and `ctload pack` reads again.

The table stays where the sources are; the store leaves. So the table names folders and says what the scanner's
operator typed, while ids, also of patients, are keyed hashes. The identifiers themselves are written only when asked.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ctload.errors import ManifestError
from ctload.readers.scanned import ScannedSeries
from ctload.scanning.source_table import CHANNEL, LABEL, SUFFIXES, beside, carried
from ctload.storage import durable

# What identifies nobody without the key; pack carries some of it into a store with --carry.
COLUMNS = (
    "study", "series", "patient", "modality", "kernel", "phase", "num_slices", "height", "width", "spacing_z_mm",
    "spacing_y_mm", "spacing_x_mm", "thickness_mm", "num_files", "code",
)  # fmt: skip
CARRIABLE = ("patient", "series", "modality", "kernel", "phase", "thickness_mm")

# Typed by hand, or the names of files and folders: they may name a patient and never enter a store.
LOCAL = ("description", "reason", "kind", "source", "path")

# Only with --identifiers, and never in a store.
IDENTIFIERS = ("study_uid", "series_uid", "patient_id", "accession", "study_date")

_MARKS = {"series", "kind", "source"}  # a table with these columns is a scan


@dataclass(frozen=True)
class ScanRow:
    """One row of a scan table as `pack` needs it.

    Attributes:
        study: The id, the user's own where it was edited.
        series: Keyed hash of the SeriesInstanceUID, or a NIfTI's stem.
        kind, source: As in ScannedSeries.
        path: Where it is.
        columns: Every cell, for a rule.
        unit: Of the row; None where there is none.
        channels, labels: Name -> path, from the columns channel:NAME and label:NAME.
        extra: Values of the columns that are not the scan's own.
    """

    study: str
    series: str
    kind: str
    source: str
    path: Path
    columns: Mapping[str, Any]
    unit: str | None
    channels: Mapping[str, Path]
    labels: Mapping[str, Path]
    extra: Mapping[str, Any]


def write_scan_table(rows: Sequence[ScannedSeries], path: Path, *, identifiers: bool = False) -> None:
    """Write the table, readable by its owner alone.

    Args:
        rows: What `scan` found.
        path: FILE.csv or FILE.parquet. Paths below its folder are written relative to it.
        identifiers: Also write UIDs, patient ids, accession numbers and dates as they are.

    Raises:
        ManifestError: Another suffix.
        CtloadError: The file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ManifestError(
            f"a table of series is .csv or .parquet, not {path.suffix or 'without suffix'!r}", path=path
        )
    names = (*COLUMNS, *LOCAL, *(IDENTIFIERS if identifiers else ()))
    cells = [columns_of(row) | {"path": _written_path(row.path, path)} for row in rows]
    content = _csv(cells, names) if path.suffix.lower() == ".csv" else _parquet(cells, names)
    durable.replace_file(path, content, mode=0o600)


def columns_of(row: ScannedSeries) -> dict[str, Any]:
    """Every column of a row: what a rule sees. A text that is not there is None."""
    cells = {name: getattr(row, name) for name in (*COLUMNS, *LOCAL, *IDENTIFIERS)}
    return {name: None if value == "" else value for name, value in cells.items()} | {"path": str(row.path)}


def is_scan_table(names: Sequence[str]) -> bool:
    return set(names) >= _MARKS


def read_scan_table(path: Path, rows: Sequence[dict[str, Any]]) -> list[ScanRow]:
    """The rows of a scan table.

    Args:
        path: The table.
        rows: What `read_rows` gave of it.
    """
    own = (*COLUMNS, *LOCAL, *IDENTIFIERS)
    return [
        ScanRow(
            study=row["study"],
            series=row["series"] or "",
            kind=row["kind"] or "",
            source=row["source"] or row["path"],
            path=(path.parent / row["path"]).resolve(),
            columns=row,
            unit=row.get("unit"),
            channels=beside(row, path, CHANNEL),
            labels=beside(row, path, LABEL),
            extra=carried(row, without=own),
        )
        for row in rows
    ]


def _written_path(place: Path, table: Path) -> str:
    folder = table.parent.resolve()
    return os.path.relpath(place, folder) if place.is_relative_to(folder) else str(place)


def _csv(rows: list[dict[str, Any]], names: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if row[name] is None else row[name] for name in names] for row in rows])
    return text.getvalue().encode(errors="replace")


def _parquet(rows: list[dict[str, Any]], names: Sequence[str]) -> bytes:
    kinds = {name: pa.int64() for name in ("num_slices", "height", "width", "num_files")}
    kinds |= {name: pa.float64() for name in names if name.endswith("_mm")}
    sink = io.BytesIO()
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()
