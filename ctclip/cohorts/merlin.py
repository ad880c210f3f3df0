"""The Merlin release as a cohort: reports_final.xlsx, zero_shot_findings_disease_cls.csv, merlin_data/*.nii.gz."""

from pathlib import Path
from zipfile import BadZipFile

import pyarrow as pa

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.cohorts.matching import index_rows, labels_by_id, match, one_file, require_columns, volumes_by_name
from ctclip.cohorts.table import read_arrow
from ctclip.errors import CohortError
from ctclip.findings import MERLIN_FINDINGS

ID = "study id"
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # both spellings are in use


def read_merlin(folder: str | Path, *, is_partial: bool = False) -> Cohort:
    """Read the release.

    The release names no patients; a study counts as its own patient. Studies without a row of labels are unknown in
    every finding. Findings keeps its impression; ctclip.reports.sections cuts it.

    Args:
        folder: Holds reports_final.xlsx (or .csv), zero_shot_findings_disease_cls.csv and the volumes, at any depth.
        is_partial: Use the studies that have both a report and a volume; otherwise anything missing is an error.

    Raises:
        CohortError: A missing file or column, an id twice, an unknown split, reports without volumes or the reverse.
    """
    folder = Path(folder)
    reports_path = one_file(folder, "reports_final.xlsx", "reports_final.csv")
    table = _read_xlsx(reports_path) if reports_path.suffix == ".xlsx" else read_arrow(reports_path)
    rows = index_rows(table, ID, ["Findings", "Split"], reports_path)
    label_row, labels = labels_by_id(one_file(folder, "zero_shot_findings_disease_cls.csv"), ID, MERLIN_FINDINGS)
    volumes = volumes_by_name(folder, ".nii.gz")
    studies, notes = match(rows, volumes, is_partial=is_partial, path=folder)
    label_rows = [label_row.get(study, -1) for study in studies]
    if -1 in label_rows:
        notes.append(f"{label_rows.count(-1)} studies have no row of labels: unknown in every finding")
    notes.append("the release names no patients: every study counts as its own")
    columns = {
        "study": pa.array(studies, pa.string()),
        "patient": pa.array(studies, pa.string()),
        "path": pa.array([str(volumes[study]) for study in studies], pa.string()),
        "report": pa.array([rows[study]["Findings"] for study in studies], pa.string()),
        "split": pa.array([_split(rows[study]["Split"]) for study in studies], pa.string()),
        **{name: pa.array(values[label_rows]) for name, values in labels.items()},
    }
    return make_cohort(
        pa.table(columns),
        name="merlin",
        findings=MERLIN_FINDINGS,
        synthetic=False,
        notes=tuple(notes),
        path=reports_path,
    )


def _split(text: str | None) -> str | None:
    """Splits as this package spells them; others stay as they are, for make_cohort to refuse with their count."""
    return None if text is None else SPLIT_NAMES.get(text.strip().lower(), text)


def _read_xlsx(path: Path) -> pa.Table:
    """The first sheet, every cell as text."""
    import openpyxl  # for a workbook only: whoever trains on something else needs none
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        rows = [list(row) for row in workbook.worksheets[0].iter_rows(values_only=True)]
        workbook.close()
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, BadZipFile, InvalidFileException) as error:
        raise CohortError(f"the workbook cannot be read: {error}", path=path) from error
    header = ["" if cell is None else str(cell).strip() for cell in rows[0]] if rows else []
    require_columns(header, [ID, "Findings", "Split"], path)
    body = [row for row in rows[1:] if any(cell is not None for cell in row)]
    wanted = {name: header.index(name) for name in (ID, "Findings", "Split")}
    return pa.table({name: pa.array([_text(row[k]) for row in body], pa.string()) for name, k in wanted.items()})


def _text(cell: object) -> str | None:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return None if cell is None else str(cell)
