"""The door of the readers: what a path holds, and what is said when a reader is not installed."""

import subprocess
import sys

import pytest

from ctload.errors import CtloadError
from ctload.readers import find_sources, read_source
from tests.ctload.dicom_files import write_series
from tests.ctload.nifti_files import ramp, write_nifti


def test_a_folder_is_searched_and_ids_do_not_depend_on_neighbours(tmp_path):
    (tmp_path / "b").mkdir()
    write_nifti(tmp_path / "b" / "two.nii", ramp((3, 4, 5)))
    write_nifti(tmp_path / "One.NII.GZ", ramp((3, 4, 5)))
    write_series(tmp_path / "c" / "series")
    (tmp_path / "notes.txt").write_text("ignored")
    found = find_sources(tmp_path)
    assert [(source.relative, source.kind) for source in found] == [
        ("One.NII.GZ", "nifti"),
        ("b/two.nii", "nifti"),
        ("c/series", "dicom"),
    ]
    assert [source.study for source in found[:2]] == ["One", "two"]
    for source in found:
        alone = find_sources(source.path)
        assert [one.study for one in alone] == [source.study]
        assert alone[0].relative == source.path.name
        assert read_source(source.path).voxels.ndim == 3


def test_an_unknown_unit_is_refused(tmp_path):
    with pytest.raises(CtloadError, match="HU, SUV, arbitrary"):
        read_source(write_nifti(tmp_path / "a.nii", ramp((3, 4, 5))), unit="hounsfield")


@pytest.mark.parametrize(("missing", "extra"), [("nibabel", "nifti"), ("isal", "nifti"), ("pydicom", "dicom")])
def test_a_missing_reader_is_named_with_its_extra(tmp_path, missing, extra, monkeypatch):
    path = write_series(tmp_path / "s") if extra == "dicom" else write_nifti(tmp_path / "a.nii", ramp((3, 4, 5)))
    for name in [name for name in sys.modules if name.split(".")[0] == missing or name.startswith("ctload.readers.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CtloadError, match=rf'{missing}.*pip install "ctload\[{extra}\]"'):
        read_source(path)


def test_importing_the_door_loads_no_reader_library():
    code = (
        "import sys, ctload.readers, ctload.packing.resample, ctload.storage.preset;"
        "print([name for name in ('nibabel', 'pydicom', 'torch', 'monai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
