"""Identifiers planted in headers and names of files, folders, zip members: no store, report or text holds them."""

import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ctload.cli import main
from ctload.errors import CtloadError
from ctload.packing.packer import pack
from ctload.storage.verification import verify
from tests.ctload.canonical_nifti import voxels_of, write_nifti
from tests.ctload.dicom_files import ct_slice, write_series
from tests.ctload.exports import in_study, tilted

REPOSITORY = Path(__file__).resolve().parents[3]

# In the headers, and in every name on disk.
PLANTED = (
    "Zuckmayer", "ZMR-4711", "ACC-0815", "19440229", "1.2.840.99999.1", "Station Drei", "Zuckmayer^Carl", "SliceOfZm",
    "zm-archiv",
)  # fmt: skip


def plant(number, dataset):
    """Identifiers in every text of a header that a scanner or its operator fills in."""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Zuckmayer^Carl", "ZMR-4711", "19440229"
    dataset.AccessionNumber, dataset.StudyID = "ACC-0815", "ACC-0815"
    dataset.InstitutionName = dataset.ReferringPhysicianName = "Station Drei"
    dataset.SeriesDescription = "Zuckmayer portal-venous"
    dataset.StudyDescription = dataset.ProtocolName = dataset.ImageComments = "CT of Zuckmayer"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a part that begins with 0 is against the standard, and pydicom quotes it
        dataset.SeriesInstanceUID = f"1.2.840.99999.1.0{dataset.SeriesInstanceUID[-12:]}"
        dataset.StudyInstanceUID = f"1.2.840.99999.1.0{dataset.StudyInstanceUID[-12:]}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.840.99999.1.{number + 1}"
    dataset.ConvolutionKernel = "Zuckmayer"


def planted(study: str, more=None):
    return in_study(study, more=lambda number, dataset: (more and more(number, dataset), plant(number, dataset)))


def rename(folder: Path) -> Path:
    """Give the files names that name the patient."""
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"SliceOfZm{number}.dcm")
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Series that are packed, and one for each way of being refused, all of one patient."""
    top = tmp_path / "zm-archiv" / "Zuckmayer^Carl"
    rename(write_series(top / "ACC-0815", 5, series="good", change=planted("good")))
    rename(write_series(top / "gap", 7, series="gap", change=planted("gap"), skip=(2,)))
    rename(write_series(top / "lean", 5, series="lean", change=planted("lean", tilted)))
    for name in "xy":
        write_series(top / "two", 5, series=name, change=planted("two"))
    rename(write_series(top / "cut", 5, series="cut", change=planted("cut")))
    cut = top / "cut" / "SliceOfZm1.dcm"
    cut.write_bytes(cut.read_bytes()[:300])
    write_series(top / "pixels", 5, series="pixels", change=planted("pixels"))
    rename(top / "pixels")
    last = top / "pixels" / "SliceOfZm4.dcm"
    last.write_bytes(last.read_bytes()[:-20])
    norescale = planted("raw", lambda _, dataset: delattr(dataset, "RescaleSlope"))
    rename(write_series(top / "raw", 5, series="raw", change=norescale))
    with zipfile.ZipFile(top / "Zuckmayer.zip", "w") as archive:
        for number in range(5):
            file = top / "x.dcm"
            dataset = ct_slice(number, series="zipped")
            planted("zipped")(number, dataset)
            dataset.save_as(file, enforce_file_format=True)
            archive.write(file, f"Zuckmayer^Carl/SliceOfZm{number}")
            file.unlink()
    content = (top / "Zuckmayer.zip").read_bytes()
    at = len(content) // 2
    (top / "bad-Zuckmayer.zip").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    (top / "cut-Zuckmayer.zip").write_bytes(content[:at])
    write_nifti(top / "SliceOfZm.nii.gz", voxels_of(1))
    whole = (top / "SliceOfZm.nii.gz").read_bytes()
    (top / "ZMR-4711.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_nifti(top / "twice" / "SliceOfZm.nii.gz", voxels_of(2))
    return tmp_path / "zm-archiv"


def found_in(text: str) -> list[str]:
    return [word for word in PLANTED if word.casefold() in text.casefold()]


def assert_nothing_planted(store: Path) -> None:
    """No name and no byte of the store holds a planted word; Parquet is decompressed first."""
    for path in (store, *store.rglob("*")):
        assert found_in(path.relative_to(store).as_posix()) == []
        if not path.is_file():
            continue
        text = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            text += str(pq.read_table(path).to_pydict()) + str(pq.read_metadata(path).metadata)
        assert found_in(text) == [], path


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rule", [None, "all"])
def test_no_identifier_reaches_store_report_or_output(export, tmp_path, workers, rule):
    command = [
        sys.executable, "-m", "ctload.cli", "pack", str(export), "--out", str(tmp_path / "store"), "--preset", "native",
        "--hash-ids", "--workers", str(workers), "--report", str(tmp_path / "report.json"), "--carry", "phase,patient",
        *([] if rule is None else ["--series-rule", rule]),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 1, done.stderr
    codes = {line.split("]")[0].removeprefix("refused [") for line in done.stdout.splitlines() if "refused [" in line}
    expected = {"GAP", "GANTRY_TILT", "UNDECODABLE", "TRUNCATED", "MISSING_RESCALE", "DUPLICATE_STUDY"}
    assert codes >= expected | ({"MULTI_SERIES"} if rule is None else set())
    assert found_in(done.stdout + done.stderr) == []
    assert found_in((tmp_path / "report.json").read_text()) == []
    assert_nothing_planted(tmp_path / "store")
    assert verify(tmp_path / "store").is_sound


def test_a_program_that_logs_gets_no_identifier_either(export, tmp_path, caplog):
    caplog.set_level("DEBUG")
    caplog.clear()
    pack([export], tmp_path / "store", preset="native", hash_ids=True)
    assert found_in(caplog.text) == []


def test_a_journal_that_a_killed_pack_leaves_holds_none_either(export, tmp_path, monkeypatch):
    monkeypatch.setattr("ctload.packing.writer.StoreWriter.finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack([export], tmp_path / "store", preset="native", series_rule="all", hash_ids=True)
    assert list((tmp_path / "store" / "journal").glob("worker-*"))
    assert_nothing_planted(tmp_path / "store")


def test_a_scan_table_without_identifiers_gives_a_store_without_them(export, tmp_path, capsys):
    table = tmp_path / "series.csv"
    assert main(["scan", str(export), "--out", str(table), "--hash-ids", "--identifiers"]) == 0
    assert found_in(capsys.readouterr().out) == []
    words = ["pack", str(table), "--out", str(tmp_path / "store"), "--preset", "native", "--series-rule", "all"]
    assert main([*words, "--report", str(tmp_path / "report.csv"), "--carry", "patient,phase"]) == 1
    told = capsys.readouterr()
    assert found_in(told.out + told.err) == []
    assert found_in((tmp_path / "report.csv").read_text()) == []
    assert_nothing_planted(tmp_path / "store")


def test_the_table_names_identifiers_only_when_asked_but_always_where_the_files_lie(export, tmp_path):
    for options in ([], ["--identifiers"]):
        table = tmp_path / f"series{len(options)}.csv"
        main(["scan", str(export), "--out", str(table), *options])
        text = table.read_text()
        assert ("1.2.840.99999.1" in text) == bool(options)
        assert "zm-archiv" in text


def test_paths_are_shown_to_who_asks(export, tmp_path, capsys):
    words = ["pack", str(export), "--out", str(tmp_path / "store"), "--preset", "native", "--show-paths"]
    assert main([*words, "--report", str(tmp_path / "report.json")]) == 1
    told = capsys.readouterr().out
    assert str(export / "Zuckmayer^Carl" / "gap") in told
    assert "SliceOfZm1.dcm" in told
    assert str(export) in (tmp_path / "report.json").read_text()
    assert_nothing_planted(tmp_path / "store" / "journal")


def test_an_error_of_the_system_is_told_without_its_file(export, tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise PermissionError(13, "Permission denied", str(export / "Zuckmayer^Carl"))

    monkeypatch.setattr("ctload.verbs.pack.pack", broken)
    assert main(["pack", str(export), "--out", str(tmp_path / "store"), "--preset", "native"]) == 2
    told = capsys.readouterr().err
    assert "Permission denied" in told
    assert found_in(told) == []


def test_a_table_error_names_the_table_and_not_its_cells(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("study,path,unit\na,Zuckmayer.nii.gz,grey\n")
    with pytest.raises(CtloadError) as raised:
        pack([table], tmp_path / "store", preset="native")
    assert found_in(str(raised.value)) == []
