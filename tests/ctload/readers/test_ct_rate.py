"""CT-RATE's metadata table applied to files of its first release, and kept off those of its second."""

import csv

import numpy as np
import pytest

from ctload.errors import IngestError, ManifestError
from ctload.readers import read_source
from ctload.readers.ct_rate import COLUMNS, read_corrections
from tests.ctload.nifti_files import write_nifti
from tests.shared_data import labels

ROW = {
    "VolumeName": "valid_1_a_1.nii.gz",
    "RescaleSlope": "1",
    "RescaleIntercept": "-8192",
    "XYSpacing": "[0.7, 0.8]",
    "ZSpacing": "1.5",
    "ImagePositionPatient": "[-166, 9, 56.25]",
    "ImageOrientationPatient": "[1, 0, 0, 0, 1, 0]",
}


def write_table(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def hu():
    """(x, y, z), air and tissue."""
    return np.random.default_rng(0).choice([-1000, -850, 40, 300], (8, 9, 10)).astype(np.int32)


def test_a_file_of_the_first_release_gets_its_hu_and_geometry(tmp_path, hu):
    correction = read_corrections(write_table(tmp_path / "m.csv", ROW))["valid_1_a_1"]
    for number, dtype in enumerate((np.int16, np.float64)):
        path = write_nifti(tmp_path / f"{number}.nii.gz", (hu + 8192).astype(dtype), sform=None)
        volume = read_source(path, correction=correction)
        assert np.array_equal(volume.voxels, hu.T)
        # Position and directions are LPS in the table.
        assert np.allclose(volume.affine @ [2, 3, 4, 1], [166 - 4 * 0.8, -9 - 3 * 0.7, 56.25 + 2 * 1.5, 1])


@pytest.mark.parametrize("intercept", ["-1024", "-8192"])
def test_a_file_of_the_second_release_is_not_rescaled_again(tmp_path, hu, intercept):
    table = write_table(tmp_path / "m.csv", {**ROW, "RescaleIntercept": intercept})
    correction = read_corrections(table)["valid_1_a_1"]
    with pytest.raises(IngestError, match=r"NOT_HU.*rescaled before"):
        read_source(write_nifti(tmp_path / "a.nii.gz", hu.astype(np.int16)), correction=correction)
    with pytest.raises(IngestError, match=r"NOT_HU.*scale of its own"):
        read_source(write_nifti(tmp_path / "b.nii.gz", hu.astype(np.int16), intercept=-8192), correction=correction)


@pytest.mark.parametrize(
    "change",
    [{"XYSpacing": "0.7"}, {"XYSpacing": "[0.7]"}, {"ZSpacing": "thin"}, {"ImagePositionPatient": "exit()"},
     {"RescaleSlope": ""}],
)  # fmt: skip
def test_a_value_that_is_no_number_is_refused_with_its_line(tmp_path, change):
    with pytest.raises(ManifestError, match="line 3"):
        read_corrections(write_table(tmp_path / "m.csv", ROW, {**ROW, "VolumeName": "b.nii.gz", **change}))


def test_a_volume_twice_and_another_table_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="second time"):
        read_corrections(write_table(tmp_path / "m.csv", ROW, ROW))
    (tmp_path / "other.csv").write_text("study,path\na,b\n")
    with pytest.raises(ManifestError, match="no CT-RATE metadata"):
        read_corrections(tmp_path / "other.csv")
    (tmp_path / "damaged.csv.gz").write_bytes(b"VolumeName")
    for name in ("absent.csv", "damaged.csv.gz"):
        with pytest.raises(ManifestError, match="cannot be read"):
            read_corrections(tmp_path / name)


def test_the_released_validation_table_is_read_whole():
    found = read_corrections(labels("ctrate_valid_metadata.csv.gz"))
    assert len(found) == 3039
    assert {correction.intercept for correction in found.values()} == {-1024.0, -8192.0}
    spacings = np.array([np.linalg.norm(correction.affine[:3, :3], axis=0) for correction in found.values()])
    assert spacings.min() >= 0.28
    assert spacings.max() <= 5.0
