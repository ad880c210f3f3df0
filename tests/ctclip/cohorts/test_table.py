"""A table of studies becomes a cohort, or an error that says how many rows are wrong and what to do."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from ctclip.cohorts.cohort import check_volumes
from ctclip.cohorts.table import read_table
from ctclip.errors import CohortError

HEADER = "study,patient,path,report,split,ascites,scanner"
ROWS = (
    's1,p1,v/s1.nii.gz,"Liver: Normal.\nSpleen: Normal.",train,1,A',
    "s2,p1,v/s2.nii.gz,Liver: Normal.,train,0,A",
    "s3,p2,v/s3.nii.gz,Liver: Normal.,val,,B",
    "007,p3,v/s4.nii.gz,Liver: Normal.,test,-1,B",
)


def write(folder, rows=ROWS, header=HEADER, name="studies.csv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_csv_gives_labels_splits_and_absolute_paths(tmp_path):
    cohort = read_table(write(tmp_path))
    assert cohort.findings == ("ascites",)
    assert cohort.labels().tolist() == [[1], [0], [-1], [-1]]
    assert cohort.labels().dtype == np.int8
    assert cohort.studies == ["s1", "s2", "s3", "007"]
    assert cohort.split("train").studies == ["s1", "s2"]
    assert cohort.paths[0] == tmp_path / "v" / "s1.nii.gz"
    assert cohort.reports[0] == "Liver: Normal.\nSpleen: Normal."
    assert cohort.table["scanner"].to_pylist() == ["A", "A", "B", "B"]
    assert not cohort.synthetic
    assert "4 real studies of 3 patients" in cohort.summary()


def test_a_parquet_table_with_floats_reads_the_same(tmp_path):
    columns = {
        "study": ["a", "b", "c"],
        "patient": ["a", "b", "c"],
        "path": ["a.nii", "b.nii", "c.nii"],
        "report": ["x", "y", "z"],
        "split": ["train", "val", "test"],
        "Lung nodule": [1.0, None, 0.0],
        "abnormal:liver": [True, False, None],
        "phantom": [True, True, True],
    }
    pa_parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    cohort = read_table(tmp_path / "t.parquet")
    assert cohort.labels()[:, 0].tolist() == [1, -1, 0]
    assert cohort.units == ("liver",)
    assert cohort.normality("liver").tolist() == [1, 0, -1]
    assert cohort.synthetic
    assert "synthetic (not from patients)" in cohort.summary()


def test_findings_can_be_named(tmp_path):
    path = write(tmp_path, header=HEADER.replace("scanner", "sarcopenia"), rows=[row[:-1] + "1" for row in ROWS])
    assert read_table(path, findings=["sarcopenia"]).findings == ("sarcopenia",)
    with pytest.raises(CohortError, match="'myth'"):
        read_table(path, findings=["myth"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("s1,p9,v,r,train,0,A", "1 study ids stand in more than one row"),
        ("s9,p9,v,,train,0,A", "'report' is empty in 1 of 5 rows, first in row 5"),
        ("s9,p9,v,   ,train,0,A", "'report' is empty in 1 of 5"),
        (",p9,v,r,train,0,A", "'study' is empty"),
        ("s9,p1,v,r,test,0,A", "patient 'p1' has study 's1' in train and study 's9' in test"),
        ("s9,p9,v,r,dev,0,A", r"unknown split, values \['dev'\]; write train, val or test"),
        ("s9,p9,v,r,train,2,A", r"'ascites' has 1 of 5 values that are no label, such as \['2'\]"),
        ("s9,p9,v,r,train,yes,A", r"such as \['yes'\]; write 1"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, message):
    with pytest.raises(CohortError, match=message) as caught:
        read_table(write(tmp_path, rows=[*ROWS, row]))
    assert str(tmp_path / "studies.csv") in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("study,patient,path,split", ["a,b,c,train"], r"columns \['report'\] are missing"),
        (HEADER, [], "no row"),
        ("study,study,path", ["a,b,c"], r"columns \['study'\] stand more than once"),
        (HEADER, ["a,b,c"], "cannot be read"),
        ("", [], "empty"),
        (HEADER + ",synthetic", [ROWS[0] + ",1", ROWS[1] + ",0"], "mixes synthetic and real"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, header, rows, message):
    with pytest.raises(CohortError, match=message):
        read_table(write(tmp_path, header=header, rows=rows) if header else _empty(tmp_path))


def _empty(folder):
    path = folder / "empty.csv"
    path.touch()
    return path


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CohortError, match="no such table"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(CohortError, match=r"\.csv or \.parquet"):
        read_table(write(tmp_path, name="studies.xlsx"))
    (tmp_path / "latin.csv").write_bytes(b"study,patient,path,report,split\n\xe4,b,c,d,train\n")
    with pytest.raises(CohortError, match="cannot be read"):
        read_table(tmp_path / "latin.csv")


def test_an_absent_split_or_unit_lists_what_there_is(tmp_path):
    cohort = read_table(write(tmp_path, rows=ROWS[:2]))
    with pytest.raises(CohortError, match=r"\{'train': 2\}"):
        cohort.split("test")
    with pytest.raises(CohortError, match="liver"):
        cohort.normality("liver")


def test_reports_without_volumes_are_counted(tmp_path):
    cohort = read_table(write(tmp_path))
    (tmp_path / "v").mkdir()
    for row in range(3):
        cohort.paths[row].touch()
    with pytest.raises(CohortError, match="1 of 4 studies have a report but no volume") as caught:
        check_volumes(cohort)
    assert caught.value.study == "007"
    cohort.paths[3].touch()
    check_volumes(cohort)
