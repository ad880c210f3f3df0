"""The cohort on disk: a table that reads as a cohort, the same bytes whoever makes it, and further series."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ctclip.cohorts.phantom import assign_splits, make_phantom_cohort, read_phantom
from ctclip.errors import CohortError
from ctclip.phantom.catalogue import CATALOGUE, FINDINGS, bit_of
from ctclip.phantom.command import FORMAT_NAMES
from ctclip.phantom.errors import KnobError
from ctclip.phantom.grid import Grid, NativeGrid
from ctclip.phantom.knobs import Knobs
from ctclip.reports.sections import SECTIONS, split_sections
from ctload.geometry import to_canonical
from ctload.packing.packer import pack
from ctload.readers import read_source
from ctload.storage.store import open_store

GRID = Grid.covering((20, 26, 28))
KNOBS = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.2), repeat_share=0.5)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    return out, make_phantom_cohort(out, 12, seed=1, grid=GRID, knobs=KNOBS, has_masks=True)


def test_the_same_seed_gives_the_same_bytes_on_one_and_two_workers(made, tmp_path):
    make_phantom_cohort(tmp_path / "two", 12, seed=1, grid=GRID, knobs=KNOBS, has_masks=True, workers=2)
    assert contents(tmp_path / "two") == contents(made[0])


def test_another_seed_gives_other_volumes_and_reports(made, tmp_path):
    other = make_phantom_cohort(tmp_path / "other", 12, seed=2, grid=GRID, knobs=KNOBS)
    assert not set(other.reports) & set(made[1].reports)


def test_a_longer_cohort_begins_with_the_studies_of_a_shorter_one(made, tmp_path):
    make_phantom_cohort(tmp_path / "short", 5, seed=1, grid=GRID, knobs=KNOBS, has_masks=True)
    short, long = contents(tmp_path / "short"), contents(made[0])
    volumes = [name for name in short if name.startswith(("volumes/", "masks/"))]
    num_maps = int((read_phantom(tmp_path / "short").labels() == 1).sum())
    assert len(volumes) == 5 * 3 + num_maps
    assert all(short[name] == long[name] for name in volumes)


def test_everything_says_that_it_is_synthetic(made):
    out, cohort = made
    assert cohort.synthetic
    assert cohort.label_source == "truth"
    assert all(name.startswith("phantom_") for name in cohort.studies + cohort.patients)
    assert json.loads((out / "phantom.json").read_text())["synthetic"] is True
    assert all(b"synthetic phantom" in read_bytes(path)[:400] for path in cohort.paths)


def read_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def test_the_table_has_truth_text_labels_and_normality_of_every_section(made):
    _, cohort = made
    names = cohort.table.column_names
    assert cohort.findings == FINDINGS
    assert {f"report:{finding}" for finding in FINDINGS} <= set(names)
    assert set(cohort.units) == {"report", *SECTIONS}
    truth = cohort.labels()
    assert set(np.unique(truth)) <= {-1, 0, 1}
    assert np.all(cohort.normality("report")[(truth == 1).any(axis=1)] == 1)
    liver = [k for k, finding in enumerate(FINDINGS) if CATALOGUE[finding].section == "liver"]
    known = cohort.normality("liver") >= 0
    assert np.array_equal(cohort.normality("liver")[known] == 1, (truth[known][:, liver] == 1).any(axis=1))
    for report, normality in zip(cohort.reports, cohort.normality("pancreas"), strict=True):
        assert (normality >= 0) == bool(split_sections(report)["pancreas"])
    assert len(cohort) == 12


def test_finding_masks_are_the_truth(made):
    out, cohort = made
    labels = cohort.labels()
    for row, name in enumerate(cohort.table["finding_mask"].to_pylist()):
        bits = int(np.bitwise_or.reduce(np.frombuffer(read_bytes(out / name)[352:], "<u4")))
        for k, finding in enumerate(FINDINGS):
            assert (bits >> bit_of(finding) & 1) == (labels[row, k] == 1)


def test_a_store_of_phantoms_holds_the_organs_and_one_label_map_per_finding_that_is_there(made, tmp_path):
    out, cohort = made
    report = pack([out / "studies.csv"], tmp_path / "store", preset="native")
    assert not report.refused
    store = open_store(tmp_path / "store")
    for row, study in enumerate(cohort.studies):
        present = {finding for k, finding in enumerate(FINDINGS) if cohort.labels()[row, k] == 1}
        assert set(store.studies.table["labels"][store.studies.row_of(study)].as_py()) == present | {"organs"}
        organs = np.frombuffer(read_bytes(out / cohort.table["organ_mask"][row].as_py())[352:], np.uint8)
        assert np.array_equal(store.read(study, array="labels/organs").ravel(), organs)
        bits = np.frombuffer(read_bytes(out / cohort.table["finding_mask"][row].as_py())[352:], "<u4")
        for finding in present:
            stored = store.read(study, array=f"labels/{finding}")
            assert np.array_equal(stored.ravel() != 0, (bits >> bit_of(finding) & 1).astype(bool))


def test_patients_with_several_studies_stay_in_one_split(made):
    _, cohort = made
    patients = cohort.patients
    assert len(set(patients)) < len(patients)
    splits = dict(zip(patients, cohort.table["split"].to_pylist(), strict=True))
    assert all(splits[p] == s for p, s in zip(patients, cohort.table["split"].to_pylist(), strict=True))


def test_splits_meet_their_shares_to_a_patient():
    splits = assign_splits(1000, 0, {"train": 0.7, "val": 0.1, "test": 0.2})
    assert [splits.count(name) for name in ("train", "val", "test")] == [700, 100, 200]
    assert splits != sorted(splits)


def test_dicom_and_nifti_hold_the_same_volume_in_space(tmp_path):
    cohorts = [make_phantom_cohort(tmp_path / f, 2, seed=3, grid=GRID, format=f) for f in ("dicom", "nii")]
    for dicom, nifti in zip(*(cohort.paths for cohort in cohorts), strict=True):
        volumes = [read_source(path) for path in (dicom, nifti)]
        voxels, affines = zip(*(to_canonical(volume.voxels, volume.affine) for volume in volumes), strict=True)
        assert np.array_equal(*voxels)
        assert np.allclose(*affines, atol=1e-3)


def test_dicom_headers_say_synthetic_and_repeat_to_the_byte(tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra dicom)")
    for name in ("a", "b"):
        make_phantom_cohort(tmp_path / name, 1, seed=3, grid=Grid.covering((9, 16, 16)), format="dicom")
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second
    header = pydicom.dcmread(next((tmp_path / "a" / "volumes").rglob("*.dcm")))
    assert "SYNTHETIC" in str(header.PatientName)
    assert "Synthetic" in header.StudyDescription


def test_further_series_are_the_same_study_with_another_kernel_and_another_phase(tmp_path):
    knobs = Knobs(series=("kernel", "phase"), repeat_share=0.0)
    cohort = make_phantom_cohort(tmp_path / "out", 3, seed=0, grid=GRID, knobs=knobs)
    with (tmp_path / "out" / "series.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["series"] for row in rows[:3]] == ["first", "kernel", "phase"]
    assert rows[0]["kernel"] != rows[1]["kernel"]
    assert rows[0]["phase"] == rows[1]["phase"] != rows[2]["phase"]
    assert all((tmp_path / "out" / row["path"]).is_file() and row["synthetic"] == "1" for row in rows)
    assert len(cohort) == 3


@pytest.mark.parametrize("format", ["nii.gz", "dicom"])
def test_a_cohort_goes_through_pack_like_any_other_data(tmp_path, format):
    cohort = make_phantom_cohort(tmp_path / "out", 3, seed=0, grid=GRID, format=format)
    report = pack([tmp_path / "out" / "studies.csv"], tmp_path / "store", preset="native")
    assert len(report.packed) == 3
    assert not report.refused
    store = open_store(tmp_path / "store")
    for study, path in zip(cohort.studies, cohort.paths, strict=True):
        source = read_source(path)
        assert np.array_equal(store.read(study), to_canonical(source.voxels, source.affine)[0])


def test_native_volumes_vary_in_spacing_and_orientation_and_stand_where_they_should(tmp_path):
    cohort = make_phantom_cohort(tmp_path / "out", 6, seed=0, grid=NativeGrid(32), format="nii")
    volumes = [read_source(path) for path in cohort.paths]
    assert len({volume.voxels.shape for volume in volumes}) > 1
    assert len({tuple(np.sign(volume.affine[:3, :3]).ravel()) for volume in volumes}) > 1
    for volume in volumes:
        voxels, affine = to_canonical(volume.voxels, volume.affine)
        # Left of the midline, in the upper abdomen, the liver is not: the right side is denser than the lung base.
        middle = np.linalg.inv(affine) @ (80.0, 0.0, 40.0, 1.0)
        z, y, x = np.rint(middle[:3]).astype(int)
        assert voxels[z, y - 1 : y + 2, x - 1 : x + 2].mean() > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_studies": 0}, "num_studies=0"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
        ({"format": "png"}, "'png'"),
        ({"splits": {"train": 0.5}}, "sum to 1"),
        ({"splits": {"train": 0.5, "holdout": 0.5}}, "holdout"),
    ],
)
def test_an_impossible_order_is_refused_and_nothing_is_written(tmp_path, change, words):
    order = {"num_studies": 2, "seed": 0, "grid": GRID, **change}
    with pytest.raises(KnobError) as caught:
        make_phantom_cohort(tmp_path / "out", **order)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_dicom_without_pydicom_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KnobError, match=r"nii\.gz"):
        make_phantom_cohort(tmp_path / "out", 2, seed=0, grid=GRID, format="dicom")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_not_written_into(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KnobError, match="not empty") as caught:
        make_phantom_cohort(tmp_path, 2, seed=0, grid=GRID)
    assert caught.value.path == str(tmp_path)


def test_reading_a_folder_without_a_table_is_a_typed_error(tmp_path):
    with pytest.raises(CohortError, match="no such table"):
        read_phantom(tmp_path)


def test_the_command_names_every_format():
    assert set(FORMAT_NAMES.values()) == {"nii.gz", "nii", "dicom"}
