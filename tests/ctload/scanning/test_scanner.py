"""scan: what it finds in mixed exports, and what it says of series that cannot be packed."""

import shutil
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from ctload.cli import main
from ctload.scanning.scanner import ScanOptions, scan
from ctload.scanning.source_table import read_rows
from ctload.scanning.table import COLUMNS, IDENTIFIERS, LOCAL
from tests.ctload.canonical_nifti import voxels_of, write_nifti
from tests.ctload.dicom_files import multi_frame, write_series, zipped
from tests.shared_data import ct

OPTIONS = ScanOptions(b"secret")


def of_study(name: str, patient: str = "P1"):
    """A change that puts a slice into a study."""

    def change(_, dataset):
        dataset.StudyInstanceUID = f"1.2.{int.from_bytes(name.encode(), 'big')}"
        dataset.PatientID = patient
        dataset.SliceThickness, dataset.ConvolutionKernel = 3, ["B30f", "2"]
        dataset.SeriesDescription = "Abdomen portal-venous"

    return change


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two studies of two patients in one flat folder, a third spread over two folders, a zip, and a NIfTI file."""
    top = tmp_path / "export"
    write_series(top / "flat", 5, series="a", change=of_study("one"))
    write_series(top / "flat", 4, series="b", change=of_study("one"))
    write_series(top / "flat", 6, series="c", change=of_study("two", "P2"))
    write_series(top / "spread" / "IM1", 6, series="d", change=of_study("three", "P3"))
    (top / "spread" / "IM2").mkdir()
    for number, file in enumerate(sorted((top / "spread" / "IM1").iterdir())[:3]):
        shutil.move(file, top / "spread" / "IM2" / f"{number}")  # without a suffix, as on a CD
    zipped(write_series(top / "packed", 3, series="e", change=of_study("four", "P4")))
    shutil.rmtree(top / "packed")
    write_nifti(top / "scan.nii.gz", voxels_of(1))
    (top / "DICOMDIR").write_bytes(b"not looked at")
    (top / "notes.txt").write_text("nothing")
    (top / ".hidden.dcm").write_text("nothing")
    return top


@pytest.mark.parametrize("workers", [1, 2])
def test_series_are_put_together_whatever_folders_they_lie_in(export, workers):
    rows = scan([export], OPTIONS, workers=workers)
    assert [(row.source, row.num_slices, row.kind, row.code) for row in rows if row.kind != "dicom"] == [
        ("export/packed.zip", 3, "dicom-zip", ""),
        ("export/scan.nii.gz", 12, "nifti", ""),
    ]
    found = sorted((row.source, row.num_slices, len(row.files), row.code) for row in rows if row.kind == "dicom")
    assert found == [
        ("export/flat", 4, 4, ""),
        ("export/flat", 5, 5, ""),
        ("export/flat", 6, 6, ""),
        ("export/spread", 6, 6, ""),
    ]
    assert len({row.study for row in rows}) == 5
    assert len({row.series for row in rows}) == 6
    assert len({row.patient for row in rows if row.patient}) == 4


def test_a_row_says_what_a_rule_needs(export):
    row = next(row for row in scan([export], OPTIONS) if row.num_slices == 5)
    assert (row.spacing_z_mm, row.spacing_y_mm, row.spacing_x_mm) == (2.5, 0.7, 0.8)
    assert (row.height, row.width, row.thickness_mm, row.modality) == (6, 8, 3.0, "CT")
    assert (row.kernel, row.phase, row.description) == ("B30f\\2", "portal venous", "Abdomen portal-venous")


def test_ids_depend_on_the_key_and_on_nothing_else(export, tmp_path):
    first = {row.series: row.study for row in scan([export], OPTIONS)}
    assert {row.series: row.study for row in scan([export / "flat"], OPTIONS)}.items() <= first.items()
    dicom = {row.series for row in scan([export / "flat"], OPTIONS)}
    assert not dicom & {row.series for row in scan([export], ScanOptions(b"other"))}


@pytest.mark.parametrize(
    ("code", "change", "skip"),
    [
        ("GAP", None, (2,)),
        ("LOCALIZER", lambda _, dataset: setattr(dataset, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), ()),
        ("NON_CT", lambda _, dataset: setattr(dataset, "Modality", "MR"), ()),
        ("NO_GEOMETRY", lambda _, dataset: delattr(dataset, "ImagePositionPatient"), ()),
        ("TOO_FEW_SLICES", None, (0, 1, 2, 3, 4)),
        (
            "GANTRY_TILT",
            lambda number, dataset: setattr(
                dataset, "ImagePositionPatient", [-12, -34 + 2 * number, 100 + 2.5 * number]
            ),
            (),
        ),
    ],
)
def test_what_headers_tell_against_a_series_is_its_code(tmp_path, code, change, skip):
    write_series(tmp_path / "s", 7, change=change, skip=skip)
    (row,) = scan([tmp_path / "s"], OPTIONS)
    assert row.code == code
    assert row.reason
    assert not row.reason.startswith("[")


def test_a_file_that_cannot_be_parsed_may_belong_to_any_series_of_its_folder(tmp_path):
    write_series(tmp_path / "in" / "both", 4, series="a")
    write_series(tmp_path / "in" / "both", 4, series="b")
    write_series(tmp_path / "in" / "other", 4, series="c")
    broken = tmp_path / "in" / "both" / "x.dcm"
    broken.write_bytes((tmp_path / "in" / "both" / "a003.dcm").read_bytes()[:200])
    rows = scan([tmp_path / "in"], OPTIONS)
    assert sorted((row.source, row.code) for row in rows) == [
        ("in/both", "UNDECODABLE"), ("in/both", "UNDECODABLE"), ("in/other", ""),
    ]  # fmt: skip


def test_a_link_that_leads_nowhere_is_told_and_a_loop_of_links_ends(tmp_path):
    folder = write_series(tmp_path / "in" / "series", 4)
    (folder / "again").symlink_to(tmp_path / "in")
    assert [row.code for row in scan([tmp_path / "in"], OPTIONS)] == [""]
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    assert [row.code for row in scan([tmp_path / "in"], OPTIONS)] == ["UNDECODABLE"]


def test_nothing_and_no_path_are_rows_too(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    rows = scan([tmp_path / "empty", tmp_path / "nowhere", tmp_path / "bad.zip"], OPTIONS)
    assert sorted((Path(row.source).name, row.code) for row in rows) == [
        ("bad.zip", "TRUNCATED"), ("empty", "NOT_A_VOLUME"), ("nowhere", "NOT_A_VOLUME"),
    ]  # fmt: skip
    assert all(row.study for row in rows)


def test_a_multi_frame_object_is_measured_from_its_header(tmp_path):
    (tmp_path / "s").mkdir()
    multi_frame(5).save_as(tmp_path / "s" / "one", enforce_file_format=True)
    (row,) = scan([tmp_path / "s"], OPTIONS)
    assert (row.num_slices, row.spacing_z_mm, row.code) == (5, 2.5, "")
    broken = multi_frame(5, change=lambda _, dataset: delattr(dataset, "PerFrameFunctionalGroupsSequence"))
    broken.save_as(tmp_path / "s" / "one", enforce_file_format=True)
    assert scan([tmp_path / "s"], OPTIONS)[0].code == "NO_GEOMETRY"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("identifiers", [False, True])
def test_the_table_holds_identifiers_only_when_asked(export, tmp_path, suffix, identifiers, capsys):
    out = tmp_path / f"series{suffix}"
    words = ["scan", str(export), "--out", str(out), *(["--identifiers"] if identifiers else [])]
    assert main(words) == 0
    read = pyarrow.csv.read_csv if suffix == ".csv" else pyarrow.parquet.read_table
    table = read(out)
    assert table.column_names == [*COLUMNS, *LOCAL, *(IDENTIFIERS if identifiers else ())]
    assert table.num_rows == 6
    assert ("P1" in str(table.to_pydict())) == identifiers
    assert out.stat().st_mode & 0o077 == 0
    told = capsys.readouterr().out
    assert "6  series of 5 studies" in told
    assert "1  studies have several" in told


def test_a_scan_of_nothing_to_pack_says_so_in_its_status(tmp_path, capsys):
    write_series(tmp_path / "s", 5, skip=(2,))
    assert main(["scan", str(tmp_path / "s"), "--out", str(tmp_path / "t.csv")]) == 1
    assert "1  series: GAP" in capsys.readouterr().out
    assert main(["scan", str(tmp_path / "s"), "--out", str(tmp_path / "t.txt")]) == 2


def test_files_given_one_by_one_are_still_one_series(tmp_path):
    files = sorted(write_series(tmp_path / "s", 5).iterdir())
    assert [(row.num_slices, row.code) for row in scan(files, OPTIONS)] == [(5, "")]


def test_a_lone_file_is_scanned_without_its_neighbours(tmp_path):
    write_series(tmp_path / "s", 5)
    (row,) = scan([tmp_path / "s" / "a003.dcm"], OPTIONS)
    assert (row.num_slices, row.code) == (1, "TOO_FEW_SLICES")


# Series of every real study that holds CT: (slices, code), sorted.
REAL = {
    "cptac_c3n00247_chest": [(99, "")],
    "crlm_ct_1004_abdomen": [(41, ""), (41, "")],
    "d2n_gantrytilt_4slice": [(4, "GANTRY_TILT")],
    "d2n_missing_slice_4slice": [(4, "GAP")],
    "dcmqa_ge_head_tilt_varspacing": [(0, "SHEARED"), (28, "GANTRY_TILT"), (56, "")],
    "dcmqa_philips_phantom_tilt_neg": [(1, "LOCALIZER"), (5, "NON_CT"), (54, "GANTRY_TILT")],
    "dcmqi_liver_3slice": [(3, "")],
    "dcmqi_mini_multiframe": [(3, ""), (3, ""), (3, "NON_CT")],
    "niivue_ct_avm": [(154, "")],
    "niivue_shear_phantom": [(0, "SHEARED")],
    "transfer_syntaxes_chest_slice": [(2, "TOO_FEW_SLICES"), (16, "DUPLICATE_POSITION")],
}


@pytest.mark.parametrize("name", REAL)
def test_real_studies_are_listed_with_their_codes(name):
    rows = scan([ct(name)], OPTIONS)
    assert sorted((row.num_slices, row.code) for row in rows) == REAL[name]


def test_a_real_dicomdir_tree_is_listed_by_series():
    rows = scan([ct("pydicom_dicomdir_tree")], OPTIONS)
    codes = sorted(row.code for row in rows)
    assert codes.count("") == 1
    assert codes.count("LOCALIZER") == 1
    assert codes.count("GAP") == 1
    assert len({row.patient for row in rows}) < len({row.study for row in rows}) <= len(rows)


def test_an_id_that_looks_like_a_number_stays_text(tmp_path):
    write_series(tmp_path / "s", 5)
    out = tmp_path / "t.csv"
    main(["scan", str(tmp_path / "s"), "--out", str(out)])
    text = out.read_text()
    old = read_rows(out)[0]["study"]
    out.write_text(text.replace(old, "12e4567890123456"))
    assert read_rows(out)[0]["study"] == "12e4567890123456"
