"""Labels come from a file, or from the reports by rules, and the cohort says which."""

import json

import pytest

from ctclip.cohorts.labels import with_labels, with_rule_labels
from ctclip.cohorts.table import read_table
from ctclip.errors import CohortError, ReportError

TABLE = """study,patient,path,report,split,fracture
a,a,a.nii,Liver: Normal. Peritoneum: Ascites.,train,1
b,b,b.nii,Peritoneum: No ascites.,val,0
c,c,c.nii,Spleen: Normal.,test,
"""


@pytest.fixture
def cohort(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    return read_table(tmp_path / "t.csv")


def test_rules_fill_what_the_table_lacks_and_never_overwrite_it(cohort):
    labelled = with_rule_labels(cohort, ["fracture", "ascites"])
    assert labelled.findings == ("fracture", "ascites")
    assert labelled.labels().T.tolist() == [[1, 0, -1], [1, 0, -1]]
    assert labelled.label_source == "csv+rules"
    assert with_rule_labels(cohort, ["ascites"], closed=True).labels()[:, 1].tolist() == [1, 0, 0]
    assert with_rule_labels(cohort, ["fracture"]) is cohort
    with pytest.raises(ReportError, match="myth"):
        with_rule_labels(cohort, ["myth"])


def test_labels_by_rules_alone_say_so(cohort, tmp_path):
    bare = read_table(tmp_path / "t.csv", findings=[])
    assert with_rule_labels(bare, ["ascites"]).label_source == "rules"


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_file_of_labels_wins(cohort, tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    if suffix == "csv":
        path.write_text("study,ascites,fracture,note\nc,1,0,x\nz,1,1,y\na,,-1,\n")
    else:
        path.write_text(json.dumps({"c": {"ascites": 1, "fracture": 0}, "z": {"ascites": 1}, "a": {"fracture": -1}}))
    labelled = with_labels(cohort, path, label_source="human")
    assert labelled.labels().T.tolist() == [[-1, -1, 0], [-1, -1, 1]]
    assert labelled.findings == ("fracture", "ascites")
    assert labelled.label_source == "human"
    assert "2 of 3 studies have a row, 1 rows are of others" in labelled.summary()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "name,ascites\na,1\n", "'study' is missing"),
        ("l.csv", "study,other\na,1\n", "no label columns"),
        ("l.csv", "study,ascites\na,1\na,0\n", "1 study ids stand twice"),
        ("l.csv", "study,ascites\na,maybe\n", r"no label, such as \['maybe'\]"),
        ("l.json", "[]", "have the form"),
        ("l.json", "{", "cannot be read"),
        ("l.json", '{"a": {"ascites": "perhaps"}}', "perhaps"),
    ],
)
def test_wrong_files_are_refused(cohort, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(CohortError, match=message):
        with_labels(cohort, tmp_path / name)


def test_named_findings_must_be_there(cohort, tmp_path):
    (tmp_path / "l.csv").write_text("study,sarcopenia\na,1\n")
    assert with_labels(cohort, tmp_path / "l.csv", findings=["sarcopenia"]).findings == ("fracture", "sarcopenia")
    with pytest.raises(CohortError, match="myth"):
        with_labels(cohort, tmp_path / "l.csv", findings=["myth"])
