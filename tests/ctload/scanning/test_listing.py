"""What a DICOMDIR lists and a copy lost is told of; an index that proves nothing is not believed."""

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from ctload.cli import main
from ctload.readers.scanned import ScannedSeries
from ctload.scanning.scanner import ScanOptions, scan
from tests.ctload.dicom_files import write_series, zipped
from tests.ctload.exports import in_study

OPTIONS = ScanOptions(b"secret")


def write_dicomdir(folder: Path) -> None:
    """Take the suffixes off the files below a folder, as CDs have them, and write an index of them."""
    records = []
    for file in [each.rename(each.with_suffix("")) for each in sorted(folder.rglob("*.dcm"))]:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        patient, study, series, image = Dataset(), Dataset(), Dataset(), Dataset()
        for record, kind in ((patient, "PATIENT"), (study, "STUDY"), (series, "SERIES"), (image, "IMAGE")):
            record.DirectoryRecordType = kind
        patient.PatientID, study.StudyInstanceUID = header.PatientID, header.StudyInstanceUID
        series.SeriesInstanceUID, series.Modality = header.SeriesInstanceUID, header.Modality
        series.SeriesDescription = header.SeriesDescription
        image.ReferencedFileID = [part.upper() for part in file.relative_to(folder).parts]
        records += [patient, study, series, image]
    index = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.DirectoryRecordSequence = records
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)


@pytest.mark.parametrize("is_zip", [False, True])
def test_an_end_slice_that_only_the_dicomdir_knows_of_is_missed(tmp_path, is_zip):
    """Of a series that lost its last slice neither gaps nor counts tell; the index of the CD does."""
    for name in "ab":
        write_series(tmp_path / "cd" / name, 6, series=name)
    write_dicomdir(tmp_path / "cd")

    def codes() -> list[str]:
        return [row.code for row in scan([zipped(tmp_path / "cd") if is_zip else tmp_path / "cd"], OPTIONS)]

    assert codes() == ["", ""]
    last = max((tmp_path / "cd" / "b").iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    last.unlink()
    assert sorted(codes()) == ["", "TRUNCATED"]


def test_an_index_of_files_that_were_moved_or_that_is_damaged_says_nothing(tmp_path):
    write_series(tmp_path / "cd" / "a", 6, series="a")
    write_dicomdir(tmp_path / "cd")
    (tmp_path / "cd" / "a").rename(tmp_path / "cd" / "moved")
    assert [row.code for row in scan([tmp_path / "cd"], OPTIONS)] == [""]
    (tmp_path / "cd" / "DICOMDIR").write_bytes((tmp_path / "cd" / "DICOMDIR").read_bytes()[:300])
    assert {row.code for row in scan([tmp_path / "cd"], OPTIONS)} <= {"", "UNDECODABLE"}


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize(("modality", "code"), [("CT", "TRUNCATED"), ("SR", "NON_CT")])
def test_a_series_that_only_the_dicomdir_knows_of_is_a_row_with_its_number_of_files(tmp_path, is_zip, modality, code):
    def other(_, dataset):
        dataset.StudyInstanceUID, dataset.Modality = "1.2.3.4", modality

    write_series(tmp_path / "cd" / "a", 6, series="a")
    write_series(tmp_path / "cd" / "b", 4, series="b", change=other)
    write_dicomdir(tmp_path / "cd")

    def rows() -> dict[str, ScannedSeries]:
        scanned = scan([zipped(tmp_path / "cd") if is_zip else tmp_path / "cd"], OPTIONS)
        assert len({row.study for row in scanned}) == len(scanned) == 2
        return {row.series: row for row in scanned}

    before = rows()
    (lost,) = [name for name, row in before.items() if row.study_uid == "1.2.3.4"]
    shutil.rmtree(tmp_path / "cd" / "b")
    after = rows()
    assert after.keys() == before.keys()
    assert [row.code for name, row in after.items() if name != lost] == [""]
    assert after[lost].code == code
    assert "none of the 4 file(s)" in after[lost].reason
    for told in ("study", "patient", "modality", "description", "study_uid", "patient_id", "kind"):
        assert getattr(after[lost], told) == getattr(before[lost], told)


def test_a_pack_refuses_a_study_of_which_only_the_dicomdir_knows(tmp_path, capsys):
    write_series(tmp_path / "cd" / "a", 6, series="a", change=in_study("one"))
    write_series(tmp_path / "cd" / "b", 6, series="b", change=in_study("two"))
    write_dicomdir(tmp_path / "cd")
    shutil.rmtree(tmp_path / "cd" / "b")
    assert main(["scan", str(tmp_path / "cd"), "--out", str(tmp_path / "t.csv")]) == 0
    assert "1  series: TRUNCATED" in capsys.readouterr().out
    for source in (tmp_path / "cd", tmp_path / "t.csv"):
        assert (
            main(["pack", str(source), "--out", str(tmp_path / f"store of {source.name}"), "--preset", "native"]) == 1
        )
        output = capsys.readouterr()
        assert "refused [TRUNCATED]" in output.out + output.err
        assert "packed 1, reused 0, refused 1" in output.out


def test_a_series_that_lies_in_another_source_or_that_cannot_be_read_is_not_told_as_missing(tmp_path):
    for name in "ab":
        write_series(tmp_path / "cd" / name, 6, series=name)
    write_dicomdir(tmp_path / "cd")
    (tmp_path / "cd" / "b").rename(tmp_path / "elsewhere")
    assert [row.code for row in scan([tmp_path / "cd", tmp_path / "elsewhere"], OPTIONS)] == ["", ""]
    assert [row.code for row in scan([tmp_path / "cd" / "DICOMDIR", tmp_path / "cd" / "a"], OPTIONS)] == [""]
    (tmp_path / "elsewhere").rename(tmp_path / "cd" / "b")
    for file in (tmp_path / "cd" / "b").iterdir():
        file.write_bytes(file.read_bytes()[:400])
    rows = scan([tmp_path / "cd"], OPTIONS)
    assert len(rows) == 2
    assert not any("none of the" in row.reason for row in rows)
