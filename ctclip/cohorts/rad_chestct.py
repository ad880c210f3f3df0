"""The RAD-ChestCT release as a cohort: img*_Abnormality_and_Location_Labels.csv and <id>.npz. It has no reports.

Label columns are "abnormality*location"; an abnormality is present when it is at any location. `ctload pack` reads the
volumes (ctload/readers/npz.py).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.cohorts.matching import index_rows, match, rows_by_id, volumes_by_name
from ctclip.cohorts.table import parse_labels, read_arrow
from ctclip.errors import CohortError

ID = "NoteAcc_DEID"
SPLIT_OF_PREFIX = {"trn": "train", "val": "val", "tst": "test"}

# CT-RATE's name of a finding -> the release's abnormality (after HLIP's map_label; `Calcification` stands for both the
# arterial and the coronary finding, see ctclip.findings.COMPOSITES).
ABNORMALITIES = {
    "Emphysema": "emphysema",
    "Atelectasis": "atelectasis",
    "Lung nodule": "nodule",
    "Lung opacity": "opacity",
    "Pulmonary fibrotic sequela": "fibrosis",
    "Pleural effusion": "pleural_effusion",
    "Peribronchial thickening": "bronchial_wall_thickening",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiectasis",
    "Interlobular septal thickening": "septal_thickening",
    "Cardiomegaly": "cardiomegaly",
    "Pericardial effusion": "pericardial_effusion",
    "Hiatal hernia": "hernia",
    "Calcification": "calcification",
    "Lymphadenopathy": "lymphadenopathy",
}


def read_rad_chestct(folder: str | Path, *, is_partial: bool = False) -> Cohort:
    """Read the release, for evaluation: its reports are not public, column `report` is empty.

    Args:
        folder: Holds the label tables and the volumes, at any depth, and CT_Scan_Metadata_Complete_35747.csv if
            studies are to be grouped by patient.
        is_partial: Use the studies that have both labels and a volume; otherwise anything missing is an error.

    Raises:
        CohortError: A missing table or column, an id twice or of another form, labels without volumes or the reverse.
    """
    folder = Path(folder)
    tables = sorted(folder.rglob("img*_Abnormality_and_Location_Labels.csv"))
    if not tables:
        raise CohortError("no table img*_Abnormality_and_Location_Labels.csv under this folder", path=folder)
    labels: dict[str, dict[str, int]] = {}
    for path in tables:
        for study, row in _read_labels(path).items():
            if study in labels:
                raise CohortError("the study has labels in two tables; keep one", study=study, path=path)
            labels[study] = row
    volumes = volumes_by_name(folder, ".npz")
    studies, notes = match(labels, volumes, is_partial=is_partial, path=folder)
    findings = tuple(name for name in ABNORMALITIES if all(name in labels[study] for study in studies))
    left_out = sorted(set(ABNORMALITIES) - set(findings))
    if left_out:
        notes.append(f"no label columns for {', '.join(left_out)}")
    patients, note = _patients(folder, studies)
    columns = {
        "study": pa.array(studies, pa.string()),
        "patient": pa.array(patients, pa.string()),
        "path": pa.array([str(volumes[study]) for study in studies], pa.string()),
        "report": pa.array([""] * len(studies), pa.string()),
        "split": pa.array([_split(study, folder) for study in studies], pa.string()),
        **{name: pa.array([labels[study][name] for study in studies], pa.int8()) for name in findings},
    }
    return make_cohort(
        pa.table(columns),
        name="rad-chestct",
        findings=findings,
        synthetic=False,
        has_reports=False,
        notes=(*notes, note, "the release has no reports: for evaluation only"),
        path=folder,
    )


def _read_labels(path: Path) -> dict[str, dict[str, int]]:
    table = read_arrow(path)
    ids = list(index_rows(table, ID, [], path))
    columns: dict[str, np.ndarray] = {}
    for finding, abnormality in ABNORMALITIES.items():
        located = [name for name in table.column_names if name.split("*")[0] == abnormality]
        if located:
            columns[finding] = np.max([parse_labels(table, name, path=path) for name in located], axis=0)
    if not columns:
        raise CohortError("no column 'abnormality*location' of a known abnormality", path=path)
    return {study: {finding: int(values[row]) for finding, values in columns.items()} for row, study in enumerate(ids)}


def _patients(folder: Path, studies: list[str]) -> tuple[list[str], str]:
    found = sorted(folder.rglob("CT_Scan_Metadata_Complete*.csv"))
    if not found:
        return studies, "no CT_Scan_Metadata_Complete*.csv: every study counts as its own patient"
    rows: Mapping[str, Mapping[str, str | None]] = rows_by_id(found[0], ID, ["MRN_DEID"])
    known = [rows[study]["MRN_DEID"] if study in rows else None for study in studies]
    num_unknown = sum(patient is None for patient in known)
    patients = [patient or study for patient, study in zip(known, studies, strict=True)]
    return patients, f"patients from {found[0].name}, {num_unknown} studies without one count as their own"


def _split(study: str, folder: Path) -> str:
    split = SPLIT_OF_PREFIX.get(study[:3])
    if split is None:
        raise CohortError(f"ids start with {', '.join(SPLIT_OF_PREFIX)}", study=study, path=folder)
    return split
