"""Reports, labels and volume files of a release brought together by study id; what is missing is counted."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ctclip.cohorts.table import parse_labels, read_arrow
from ctclip.errors import CohortError


def volumes_by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """Every volume file under a folder: file name without suffix -> absolute path.

    Raises:
        CohortError: Two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        name = path.name.removesuffix(suffix)
        if name in found:
            raise CohortError(f"the volume is there twice, also as {found[name]}; keep one", study=name, path=path)
        found[name] = path.absolute()
    return found


def match(
    named: Iterable[str], volumes: Mapping[str, Path], *, is_partial: bool, path: Path
) -> tuple[list[str], list[str]]:
    """(names that have a volume, in order; notes on what was left out).

    Args:
        named: Ids of the tables.
        volumes: Id -> file.
        is_partial: Use what is there on both sides; otherwise anything missing is an error.
        path: The release's folder.

    Raises:
        CohortError: Reports without volumes or volumes without reports, unless is_partial; no pair at all.
    """
    named = list(named)
    lonely_reports = [name for name in named if name not in volumes]
    lonely_volumes = sorted(set(volumes) - set(named))
    kept = [name for name in named if name in volumes]
    counts = (
        f"{len(lonely_reports)} of {len(named)} studies of the tables have no volume file and {len(lonely_volumes)} of "
        f"{len(volumes)} volume files are in no table"
    )
    if not kept:
        raise CohortError(f"{counts}; is this the release's folder?", path=path)
    if (lonely_reports or lonely_volumes) and not is_partial:
        raise CohortError(
            f"{counts}; download the rest, or use what is there with is_partial (`partial` on the command line)",
            study=(lonely_reports or lonely_volumes)[0],
            path=path,
        )
    return kept, [counts] if lonely_reports or lonely_volumes else []


def one_file(folder: Path, *patterns: str) -> Path:
    """The one file under a folder that matches; the first pattern that matches any decides.

    Raises:
        CohortError: None, or several.
    """
    for pattern in patterns:
        found = sorted(folder.rglob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise CohortError(f"{len(found)} files match {pattern}: {[str(p) for p in found]}; keep one", path=folder)
    raise CohortError(f"no file {' or '.join(patterns)} under this folder; download the release's tables", path=folder)


def rows_by_id(path: Path, id_column: str, columns: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """id -> {column: text} of a CSV.

    Raises:
        CohortError: A missing column or an id twice.
    """
    table = read_arrow(path)
    return index_rows(table, id_column, columns, path)


def index_rows(table: pa.Table, id_column: str, columns: Iterable[str], path: Path) -> dict[str, dict[str, str | None]]:
    """As `rows_by_id`, of a table in memory."""
    columns = list(columns)
    require_columns(table.column_names, [id_column, *columns], path)
    ids = [None if value is None else str(value).strip() for value in table[id_column].to_pylist()]
    cells = {name: table[name].to_pylist() for name in columns}
    rows: dict[str, dict[str, str | None]] = {}
    for row, name in enumerate(ids):
        if not name:
            raise CohortError(f"column {id_column!r} is empty in row {row + 1}", path=path)
        if name in rows:
            raise CohortError(
                f"the id stands in more than one row of {ids.count(name)}; keep one", study=name, path=path
            )
        rows[name] = {column: cells[column][row] for column in columns}
    return rows


def labels_by_id(path: Path, id_column: str, findings: Iterable[str]) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """(id -> row, finding -> (N + 1,) int8 whose last entry is -1, for ids without a row).

    Raises:
        CohortError: A missing column, an id twice, a value that is no label.
    """
    findings = list(findings)
    table = read_arrow(path)
    row_of = {name: row for row, name in enumerate(index_rows(table, id_column, findings, path))}
    columns = {name: np.append(parse_labels(table, name, path=path), np.int8(-1)) for name in findings}
    return row_of, columns


def require_columns(present: list[str], wanted: Iterable[str], path: Path) -> None:
    """Raises:
    CohortError: A wanted column is not there.
    """
    missing = [name for name in wanted if name not in present]
    if missing:
        raise CohortError(f"columns {missing} are missing; there are {present[:60]}", path=path)
