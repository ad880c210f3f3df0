"""Texts without the names of files and folders."""

from pathlib import Path

from ctload.scanning.redaction import MARK, names_in, redacted
from tests.ctload.dicom_files import write_series, zipped


def test_names_go_and_the_rest_of_the_sentence_stays():
    text = "file ward 7/DOE^JANE.dcm: 3 slices of a 5 mm grid are missing"
    assert (
        redacted(text, ["ward 7/DOE^JANE.dcm", "DOE^JANE", "5"]) == f"file {MARK}: 3 slices of a 5 mm grid are missing"
    )


def test_what_readers_call_a_file_goes_whatever_it_is_called():
    text = "2 DICOM file(s) beside it cannot be read: file ward 7/DOE^JANE 1.dcm: it cannot be parsed; fetch it again"
    assert redacted(text, []) == (
        f"2 DICOM file(s) beside it cannot be read: file {MARK}: it cannot be parsed; fetch it again"
    )
    assert redacted("fetch the file again", []) == "fetch the file again"


def test_a_folder_called_by_a_word_of_the_message_cuts_no_hole_into_it():
    assert redacted("3 slices are missing", ["missing", "slices"]) == "3 slices are missing"


def test_a_name_inside_another_word_is_no_name():
    assert redacted("the slices differ", ["lice"]) == "the slices differ"


def test_names_are_those_of_the_way_there_and_of_what_lies_inside(tmp_path: Path):
    folder = write_series(tmp_path / "DOE_JANE" / "ct", 3, series="secret")
    names = names_in([zipped(folder), folder.parent])
    assert {"DOE_JANE", "ct.zip", "secret003.dcm", "secret003", str(folder.parent)} <= names
