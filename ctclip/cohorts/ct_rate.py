"""The CT-RATE release as a cohort: *_reports.csv, *_predicted_labels.csv and <split>_<patient>_<scan>_<n>.nii.gz.

A name such as valid_12_a_2.nii.gz says: split, patient valid_12, scan a, reconstruction 2. A study is one scan; its
reconstructions share report and labels. Volumes of the first release need the rescale of *_metadata.csv, which
`ctload pack --metadata` applies.
"""

import re
from pathlib import Path

import pyarrow as pa
import xxhash

from ctclip.cohorts.cohort import Cohort, make_cohort
from ctclip.cohorts.matching import labels_by_id, match, rows_by_id, volumes_by_name
from ctclip.errors import CohortError
from ctclip.findings import CT_RATE_FINDINGS
from ctclip.reports.sections import join_ct_rate

ID = "VolumeName"
RECONSTRUCTIONS = ("first", "all")
_NAME = re.compile(r"(?P<study>(?P<patient>(?P<split>train|valid)_\d+)_[a-z]+)_(?P<number>\d+)(?:\.nii\.gz)?")


def read_ct_rate(
    folder: str | Path, *, reconstruction: str = "first", val_share: float = 0.05, is_partial: bool = False
) -> Cohort:
    """Read the release.

    The release's `valid` is the split that everyone reports on: it is `test` here. Of the patients of `train`, a share
    chosen by a hash of their ids becomes `val`.

    Args:
        folder: Holds the tables and the volumes, at any depth.
        reconstruction: "first" takes the lowest number of each scan, which then is one study; "all" makes every
            reconstruction a study of its own.
        val_share: Share of the training patients, 0 to 1.
        is_partial: Use the studies that have both a report and a volume; otherwise anything missing is an error.

    Raises:
        CohortError: A missing table or column, a volume name of another form or twice, reports without volumes or the
            reverse, an option of another value.
    """
    if reconstruction not in RECONSTRUCTIONS:
        raise CohortError(f"reconstruction {reconstruction!r} is none of {', '.join(RECONSTRUCTIONS)}")
    if not 0 <= val_share < 1:
        raise CohortError(f"val_share={val_share} must be at least 0 and below 1")
    folder = Path(folder)
    reports = _join([rows_by_id(path, ID, ["Findings_EN", "Impressions_EN"]) for path in _tables(folder, "reports")])
    tables = [labels_by_id(path, ID, CT_RATE_FINDINGS) for path in _tables(folder, "labels")]
    volumes = volumes_by_name(folder, ".nii.gz")
    names, notes = match(reports, volumes, is_partial=is_partial, path=folder)
    parts = {name: _parse(name, folder) for name in names}
    if reconstruction == "first":
        names = _first_of_each_scan(names, parts)
        notes.append(f"one reconstruction of each scan: {len(names)} of {len(parts)} volumes")
    labels, num_unlabelled = _labels(names, tables)
    if num_unlabelled:
        notes.append(f"{num_unlabelled} studies have no row of labels: unknown in every finding")
    notes.append(f"the release's valid is test here; {val_share:.0%} of the patients of train are val")
    key = "study" if reconstruction == "first" else "name"
    columns = {
        "study": pa.array([parts[name][key] for name in names], pa.string()),
        "patient": pa.array([parts[name]["patient"] for name in names], pa.string()),
        "path": pa.array([str(volumes[name]) for name in names], pa.string()),
        "report": pa.array([join_ct_rate(*reports[name]) for name in names], pa.string()),
        "split": pa.array([_split(parts[name], val_share) for name in names], pa.string()),
        **{finding: pa.array(values) for finding, values in labels.items()},
    }
    return make_cohort(
        pa.table(columns), name="ct-rate", findings=CT_RATE_FINDINGS, synthetic=False, notes=tuple(notes), path=folder
    )


def _tables(folder: Path, kind: str) -> list[Path]:
    found = sorted(folder.rglob(f"*_{kind}.csv"))
    if not found:
        raise CohortError(f"no table *_{kind}.csv under this folder; download the release's tables", path=folder)
    return found


def _join(tables: list[dict[str, dict[str, str | None]]]) -> dict[str, tuple[str, str]]:
    joined: dict[str, tuple[str, str]] = {}
    for table in tables:
        for name, row in table.items():
            stem = name.removesuffix(".nii.gz")
            if stem in joined:
                raise CohortError("the volume has a report in two tables; keep one", study=stem)
            joined[stem] = (row["Findings_EN"] or "", row["Impressions_EN"] or "")
    return joined


def _parse(name: str, folder: Path) -> dict[str, str]:
    match_ = _NAME.fullmatch(name)
    if match_ is None:
        raise CohortError(
            "volume names have the form train_1_a_1.nii.gz or valid_1_a_1.nii.gz", study=name, path=folder
        )
    return {**match_.groupdict(), "name": name}


def _first_of_each_scan(names: list[str], parts: dict[str, dict[str, str]]) -> list[str]:
    first: dict[str, str] = {}
    for name in names:
        best = first.setdefault(parts[name]["study"], name)
        if int(parts[name]["number"]) < int(parts[best]["number"]):
            first[parts[name]["study"]] = name
    return list(first.values())


def _split(parts: dict[str, str], val_share: float) -> str:
    if parts["split"] == "valid":
        return "test"
    return "val" if xxhash.xxh3_64_intdigest(parts["patient"].encode()) / 2**64 < val_share else "train"


def _labels(names: list[str], tables: list) -> tuple[dict[str, list[int]], int]:
    place = {
        key.removesuffix(".nii.gz"): (number, row)
        for number, (row_of, _) in enumerate(tables)
        for key, row in row_of.items()
    }
    places = [place.get(name, (0, -1)) for name in names]
    labels = {finding: [int(tables[number][1][finding][row]) for number, row in places] for finding in CT_RATE_FINDINGS}
    return labels, sum(row == -1 for _, row in places)
