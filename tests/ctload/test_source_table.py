from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctload.errors import ManifestError
from ctload.pack import pack
from ctload.source_table import read_source_table
from ctload.store import open_store
from tests.ctload.canonical_nifti import voxels_of, write_nifti


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_further_columns_are_carried_and_digits_that_are_no_number_stay_text(tmp_path):
    table = write_csv(
        tmp_path / "studies.csv",
        "study,path,split,patient,age,weight,seen",
        "007,a.nii,train,0012,61,70.5,2020-01-31",
        "8,b.nii,,13,,1e2,2020-02-01",
    )
    one, other = read_source_table(table)
    assert one.study == "007"
    assert other.study == "8"
    assert one.path == tmp_path / "a.nii"
    assert one.extra == {"split": "train", "patient": "0012", "age": 61, "weight": 70.5, "seen": "2020-01-31"}
    assert other.extra == {"split": None, "patient": "13", "age": None, "weight": 100.0, "seen": "2020-02-01"}


def test_parquet_columns_keep_their_kind_and_others_become_text(tmp_path):
    columns = {
        "study": ["a"], "path": ["a.nii"], "is_male": [True], "abnormal": pa.array([-1], pa.int8()),
        "seen": pa.array([0], pa.date32()), "scanner": pa.array(["x"]).dictionary_encode(),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "studies.parquet")
    (source,) = read_source_table(tmp_path / "studies.parquet")
    assert source.extra == {"is_male": True, "abnormal": -1, "seen": "1970-01-01", "scanner": "x"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("study,file", "a,a.nii"), "no column 'path'; it needs study and path, it has study, file"),
        (("id,path", "a,a.nii"), "no column 'study'"),
        (("study,path,depth", "a,a.nii,3"), "depth are taken by the manifest"),
        (("study,path", "a,a.nii", "b,"), "row 2 has no path"),
        (("study,path,unit", "a,a.nii,Hounsfield"), "row 1 has the unit 'Hounsfield'; it must be one of HU, SUV"),
        (("study,path", ",a.nii"), "row 1 has no study"),
        (("study,path", "a,a.nii", "b,b.nii", "a,c.nii"), "rows 1 and 3 have the same study id"),
        (("study,path,path", "a,a.nii,b.nii"), "stands twice"),
        (("study,path", "a,b,c,d"), "no .csv table"),
        ((), "no .csv table"),
    ],
)
def test_a_table_that_is_not_right_is_refused_before_a_store_is_made(tmp_path, lines, message):
    table = write_csv(tmp_path / "studies.csv", *lines)
    with pytest.raises(ManifestError, match=message) as caught:
        pack([table], tmp_path / "store", preset="native")
    assert caught.value.path == str(table)
    assert not (tmp_path / "store").exists()


def test_no_such_table_and_no_parquet_file(tmp_path):
    with pytest.raises(ManifestError, match="no such table"):
        read_source_table(tmp_path / "studies.csv")
    (tmp_path / "studies.parquet").write_text("study,path")
    with pytest.raises(ManifestError, match=r"no \.parquet table"):
        read_source_table(tmp_path / "studies.parquet")


def test_ids_columns_channels_and_labels_of_a_table_reach_the_store(tmp_path):
    arterial = write_nifti(tmp_path / "art.nii.gz", voxels_of(1))
    venous = write_nifti(tmp_path / "ven.nii.gz", voxels_of(2))
    liver = write_nifti(tmp_path / "liver.nii.gz", (np.abs(voxels_of(3)) % 3).astype(np.uint8))
    table = write_csv(
        tmp_path / "studies.csv",
        "study,path,channel:venous,label:liver,split",
        "s1,art.nii.gz,ven.nii.gz,liver.nii.gz,train",
        "s2,ven.nii.gz,,,val",
    )
    report = pack([table], tmp_path / "store", preset="native")
    assert report.packed == ("s1", "s2")
    store = open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.read("s1"), arterial)
    np.testing.assert_array_equal(store.read("s1", array="1"), venous)
    np.testing.assert_array_equal(store.read("s1", array="labels/liver"), liver)
    assert store.where(split="val").ids == ["s2"]


def test_a_changed_column_reaches_the_manifest_without_packing_again(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", voxels_of(1))
    table = write_csv(tmp_path / "studies.csv", "study,path,split", "a,a.nii.gz,train")
    pack([table], tmp_path / "store", preset="native")
    write_csv(table, "study,path,split,age", "a,a.nii.gz,test,61")
    report = pack([table], tmp_path / "store", preset="native")
    assert report.reused == ("a",)
    assert open_store(tmp_path / "store").where(split="test", age=61).ids == ["a"]


def test_a_path_of_a_table_that_leads_nowhere_is_refused_alone(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", voxels_of(1))
    table = write_csv(tmp_path / "studies.csv", "study,path", "a,a.nii.gz", "b,b.nii.gz")
    report = pack([table], tmp_path / "store", preset="native")
    assert report.packed == ("a",)
    assert [refusal.study for refusal in report.refused] == ["b"]
