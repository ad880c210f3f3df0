"""A cohort: one table with a row per study (volume file, report, split, labels). It has read no voxel.

Cohorts come from the readers beside this file; each gives the same columns, so nothing behind them asks where a
study came from.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ctclip.errors import CohortError

REQUIRED_COLUMNS = ("study", "patient", "path", "report", "split")
_FILLED_WITHOUT_REPORTS = tuple(column for column in REQUIRED_COLUMNS if column != "report")
SPLITS = ("train", "val", "test")
UNIT_PREFIX = "abnormal:"  # "abnormal:<unit>" columns hold 1 abnormal, 0 normal, -1 unknown
LABEL_SOURCES = ("human", "csv", "rules", "csv+rules", "truth")


@dataclass(frozen=True)
class Cohort:
    """Studies with their reports and labels, in a fixed order. Build it with `make_cohort`.

    Attributes:
        name: For printing and for run folders.
        synthetic: True when no voxel or word of it comes from a patient.
        findings: Names of the label columns, in order.
        table: Columns study, patient, path (absolute), report, split, one int8 column per finding (1 present,
            0 absent, -1 unknown), optionally int8 "abnormal:<unit>" columns, and whatever else the source had.
        label_source: human | csv | rules | csv+rules | truth; every score repeats it.
        notes: What the reader left out or assumed, one sentence each.
    """

    name: str
    synthetic: bool
    findings: tuple[str, ...]
    table: pa.Table
    label_source: str = "csv"
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def studies(self) -> list[str]:
        """Study ids, in order."""
        return self.table["study"].to_pylist()

    @property
    def patients(self) -> list[str]:
        return self.table["patient"].to_pylist()

    @property
    def reports(self) -> list[str]:
        return self.table["report"].to_pylist()

    @property
    def paths(self) -> list[Path]:
        """Volume files, absolute, in order."""
        return [Path(path) for path in self.table["path"].to_pylist()]

    @property
    def units(self) -> tuple[str, ...]:
        """Text units whose normality the table states: "report", "liver", ..."""
        names = self.table.column_names
        return tuple(name.removeprefix(UNIT_PREFIX) for name in names if name.startswith(UNIT_PREFIX))

    def split(self, name: str) -> "Cohort":
        """The studies of one split, in order.

        Raises:
            CohortError: No study is in it.
        """
        counts = self.split_counts()
        if not counts.get(name):
            raise CohortError(f"cohort {self.name!r} has no study in split {name!r}; it has {counts}")
        return self.take(np.flatnonzero(np.array(self.table["split"].to_pylist()) == name))

    def take(self, rows: np.ndarray) -> "Cohort":
        """Some rows, in the order given."""
        return replace(self, table=self.table.take(pa.array(np.asarray(rows, np.int64))))

    def split_counts(self) -> dict[str, int]:
        """Studies per split, only splits that have some."""
        splits = self.table["split"].to_pylist()
        return {name: splits.count(name) for name in SPLITS if name in splits}

    def labels(self) -> np.ndarray:
        """(N, F) int8: 1 present, 0 absent, -1 unknown; columns as in `findings`."""
        if not self.findings:
            return np.zeros((len(self), 0), np.int8)
        return np.stack([self.table[name].to_numpy() for name in self.findings], axis=1).astype(np.int8, copy=False)

    def normality(self, unit: str) -> np.ndarray:
        """(N,) int8 of one text unit: 1 abnormal, 0 normal, -1 unknown.

        Raises:
            CohortError: The table does not state it.
        """
        if unit not in self.units:
            raise CohortError(f"cohort {self.name!r} states no normality of unit {unit!r}; it has {self.units}")
        return self.table[UNIT_PREFIX + unit].to_numpy()

    def summary(self) -> str:
        """What will be used, for the terminal."""
        kind = "synthetic (not from patients)" if self.synthetic else "real"
        lines = [f"cohort {self.name}: {len(self)} {kind} studies of {len(set(self.patients))} patients"]
        lines.append("  splits: " + ", ".join(f"{name} {count}" for name, count in self.split_counts().items()))
        known = self.labels() >= 0
        share = f", {known.mean():.0%} of the labels known" if known.size else ""
        lines.append(f"  findings: {len(self.findings)} (source: {self.label_source}{share})")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def make_cohort(
    table: pa.Table,
    *,
    name: str,
    findings: tuple[str, ...],
    synthetic: bool,
    label_source: str = "csv",
    has_reports: bool = True,
    notes: tuple[str, ...] = (),
    path: str | Path | None = None,
) -> Cohort:
    """Check a table of studies and make it a Cohort.

    Args:
        table: As in Cohort.table; findings and "abnormal:<unit>" columns are already int8.
        name: Name of the cohort.
        findings: Label columns, in order.
        synthetic: True when nothing in it comes from a patient.
        label_source: human | csv | rules | truth.
        has_reports: False lets column `report` be empty: a cohort for evaluation only.
        notes: What the reader left out or assumed.
        path: File or folder it was read from, for error messages.

    Raises:
        CohortError: A missing column, no row, a study twice, an empty cell, an unknown split, a patient in two splits.
    """
    missing = [column for column in (*REQUIRED_COLUMNS, *findings) if column not in table.column_names]
    if missing:
        raise CohortError(f"columns {missing} are missing; there are {table.column_names}", path=path)
    if table.num_rows == 0:
        raise CohortError("the table has no row; a cohort needs at least one study", path=path)
    assert label_source in LABEL_SOURCES, label_source
    _check_filled(table, REQUIRED_COLUMNS if has_reports else _FILLED_WITHOUT_REPORTS, path)
    _check_unique(table, path)
    _check_splits(table, path)
    _check_patients(table, path)
    return Cohort(name, synthetic, tuple(findings), table, label_source, tuple(notes))


def check_volumes(cohort: Cohort) -> None:
    """Check that every study's volume file is there.

    Raises:
        CohortError: Some are not; the message counts them.
    """
    absent = [row for row, path in enumerate(cohort.paths) if not path.exists()]
    if absent:
        raise CohortError(
            f"{len(absent)} of {len(cohort)} studies have a report but no volume file; copy the files there, "
            "correct column path, or take the rows out of the table",
            study=cohort.studies[absent[0]],
            path=cohort.paths[absent[0]],
        )


def _check_filled(table: pa.Table, columns: tuple[str, ...], path: str | Path | None) -> None:
    for column in columns:
        values = table[column].to_pylist()
        empty = [row for row, value in enumerate(values) if value is None or not value.strip()]
        if not empty:
            continue
        study = table["study"][empty[0]].as_py() if column != "study" else None
        raise CohortError(
            f"column {column!r} is empty in {len(empty)} of {len(values)} rows, first in row {empty[0] + 1}; "
            "fill these cells or take the rows out",
            study=study or None,
            path=path,
        )


def _check_unique(table: pa.Table, path: str | Path | None) -> None:
    counts = table["study"].value_counts().to_pylist()
    twice = [entry for entry in counts if entry["counts"] > 1]
    if twice:
        raise CohortError(
            f"{len(twice)} study ids stand in more than one row, this one in {twice[0]['counts']}; "
            "keep one row per study",
            study=twice[0]["values"],
            path=path,
        )


def _check_splits(table: pa.Table, path: str | Path | None) -> None:
    splits = table["split"].to_pylist()
    wrong = [row for row, split in enumerate(splits) if split not in SPLITS]
    if wrong:
        values = sorted({splits[row] for row in wrong})
        raise CohortError(
            f"{len(wrong)} rows have an unknown split, values {values}; write train, val or test",
            study=table["study"][wrong[0]].as_py(),
            path=path,
        )


def _check_patients(table: pa.Table, path: str | Path | None) -> None:
    first: dict[str, tuple[str, str]] = {}
    leaks: list[tuple[str, str, str, str, str]] = []
    columns = (table[column].to_pylist() for column in ("patient", "study", "split"))
    for patient, study, split in zip(*columns, strict=True):
        other_study, other_split = first.setdefault(patient, (study, split))
        if other_split != split:
            leaks.append((patient, other_study, other_split, study, split))
    if leaks:
        patient, study, split, other, other_split = leaks[0]
        raise CohortError(
            f"{len({leak[0] for leak in leaks})} patients are in more than one split: patient {patient!r} has study "
            f"{study!r} in {split} and study {other!r} in {other_split}; split by patient",
            study=other,
            path=path,
        )
