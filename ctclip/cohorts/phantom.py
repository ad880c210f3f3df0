"""The phantom cohort: synthetic abdominal CT with reports and known truth, written to a folder and read as a table.

Nothing in it comes from a patient. See ctclip/phantom/README.md for what it is and is not.
"""

import csv
import importlib.util
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ctclip.cohorts.cohort import SPLITS, Cohort
from ctclip.cohorts.table import read_table
from ctclip.phantom.catalogue import FINDINGS
from ctclip.phantom.errors import KnobError
from ctclip.phantom.grid import Grid, NativeGrid
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.organs import ORGAN_NAMES
from ctclip.phantom.stream import random_stream
from ctclip.phantom.writer import FORMATS, Row, StudyOrder, write_study

DEFAULT_SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}
TABLE_NAME = "studies.csv"
Progress = Callable[[Iterable], Iterable]


def make_phantom_cohort(
    out: str | Path,
    num_studies: int,
    *,
    seed: int,
    grid: Grid | NativeGrid,
    knobs: Knobs | None = None,
    splits: Mapping[str, float] = DEFAULT_SPLITS,
    format: str = "nii.gz",
    has_masks: bool = False,
    workers: int = 1,
    progress: Progress = iter,
) -> Cohort:
    """Make a synthetic cohort.

    Writes OUT/studies.csv, OUT/series.csv, OUT/phantom.json, OUT/volumes/ and, where asked for, OUT/masks/ and
    folders of further series. The bytes depend on the arguments, not on `workers`.

    Args:
        out: Folder to make; it must be empty or absent.
        num_studies: Studies in all, 1 or more.
        seed: 0 or more.
        grid: One grid for all, or NativeGrid for resolutions that vary.
        knobs: What the cohort is to be; the realistic preset when not given.
        splits: Shares of patients in train, val and test, which sum to 1.
        format: nii.gz | nii | dicom.
        has_masks: Write organ masks (uint8) and finding masks (uint32 bits) for the first series.
        workers: Processes, 1 or more. Above 1, a script that calls this needs `if __name__ == "__main__":`.
        progress: Wraps the iteration over studies, tqdm for instance.

    Raises:
        KnobError: A number, a share or a format that cannot be had.

    Example:
        >>> make_phantom_cohort("phantoms", 100, seed=0, grid=Grid((40, 64, 64), (7, 6, 6)))  # doctest: +SKIP
    """
    out, knobs = Path(out), knobs or Knobs.realistic()
    _check(out, num_studies, seed, splits, format, workers)
    pairs = list(_patients_and_studies(num_studies, seed, knobs))
    split_of = assign_splits(max(patient for patient, _ in pairs) + 1, seed, splits)
    orders = [
        StudyOrder(out, seed, patient, index, split_of[patient], knobs, grid, format, has_masks)
        for patient, index in pairs
    ]
    folders = ["volumes", *(f"volumes_{name}" for name in knobs.series), *(["masks"] if has_masks else [])]
    for folder in folders:
        (out / folder).mkdir(parents=True, exist_ok=True)
    results = list(progress(_run(orders, workers)))
    _write_csv(out / "series.csv", [row for _, rows in results for row in rows])
    _write_csv(out / TABLE_NAME, [row for row, _ in results])
    _write_description(out, num_studies, seed, knobs, grid, format)
    return read_phantom(out)


def read_phantom(folder: str | Path) -> Cohort:
    """The cohort that `make_phantom_cohort` wrote into a folder."""
    return read_table(Path(folder) / TABLE_NAME, findings=FINDINGS, name="phantom", label_source="truth")


def assign_splits(num_patients: int, seed: int, splits: Mapping[str, float]) -> list[str]:
    """The split of each patient: shares are met to the nearest patient, who falls where is random."""
    order = random_stream(seed, num_patients, "splits").permutation(num_patients)
    assigned, start, total = [""] * num_patients, 0, 0.0
    for name, share in splits.items():
        total += share
        stop = round(total * num_patients)
        for patient in order[start:stop]:
            assigned[patient] = name
        start = stop
    return assigned


def _patients_and_studies(num_studies: int, seed: int, knobs: Knobs) -> Iterator[tuple[int, int]]:
    """(patient, study) pairs: some patients have two studies, half of these a third."""
    patient, made = 0, 0
    while made < num_studies:
        chances = random_stream(seed, patient, "repeats").random(2)
        count = 1 + int(chances[0] < knobs.repeat_share) * (1 + int(chances[1] < 0.5))
        for index in range(min(count, num_studies - made)):
            yield patient, index
        made += count
        patient += 1


def _run(orders: list[StudyOrder], workers: int) -> Iterator[tuple[Row, list[Row]]]:
    if workers == 1:
        yield from map(write_study, orders)
        return
    # spawn: a forked child would inherit threads of whatever the caller has open.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write_study, orders, chunksize=4)


def _check(out: Path, num_studies: int, seed: int, splits: Mapping[str, float], format: str, workers: int) -> None:
    if num_studies < 1 or workers < 1 or seed < 0:
        raise KnobError(f"num_studies={num_studies} and workers={workers} must be 1 or more, seed={seed} 0 or more")
    if format not in FORMATS:
        raise KnobError(f"format={format!r} is unknown; choose one of {FORMATS}")
    if format == "dicom" and importlib.util.find_spec("pydicom") is None:
        raise KnobError("format='dicom' needs pydicom, which is not installed; install ctload[dicom] or take nii.gz")
    unknown = [name for name in splits if name not in SPLITS]
    if unknown or min(splits.values(), default=-1) < 0 or abs(sum(splits.values()) - 1) > 1e-6:
        raise KnobError(f"splits={dict(splits)} must give shares >= 0 of {SPLITS} that sum to 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise KnobError("the folder for the cohort is not empty; give a new one or empty it", path=out)


def _write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _write_description(
    out: Path, num_studies: int, seed: int, knobs: Knobs, grid: Grid | NativeGrid, format: str
) -> None:
    """phantom.json: that the cohort is synthetic, and what it was made from."""
    content = {
        "synthetic": True,
        "note": "Synthetic phantom studies and reports made by a program; no voxel and no word comes from a patient.",
        "num_studies": num_studies,
        "seed": seed,
        "format": format,
        "grid": {"kind": type(grid).__name__, **vars(grid)},
        "knobs": {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(knobs).items()},
        "organ_labels": dict(enumerate(ORGAN_NAMES)),
        "finding_bits": {finding: bit for bit, finding in enumerate(FINDINGS)},
    }
    (out / "phantom.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
