"""The public releases are read from folders of their format; the folders are made here, with made-up content."""

import csv

import numpy as np
import openpyxl
import pytest

from ctclip.cohorts.ct_rate import read_ct_rate
from ctclip.cohorts.merlin import read_merlin
from ctclip.cohorts.rad_chestct import read_rad_chestct
from ctclip.cohorts.source import read_cohort
from ctclip.cohorts.table import read_table, write_table
from ctclip.errors import CohortError
from ctclip.evaluation.zeroshot import score_cohort
from ctclip.findings import CT_RATE_FINDINGS, MERLIN_FINDINGS
from ctclip.texts.prompts import default_prompts
from tests.ctclip.score_tables import embed_words
from tests.shared_data import labels as shared_labels
from tests.shared_data import reports as shared_reports

REPORT = "FINDINGS: Liver: Normal. IMPRESSION: Normal."


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def touch(folder, names, suffix=".nii.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").touch()


@pytest.fixture
def merlin(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["study id", "Findings", "Split", "Few Shot"])
    for row in [("AC1", REPORT, "train", 1), ("AC2", REPORT, "val", None), ("AC3", REPORT, "valid", None),
                (404, REPORT, "test", None), ("AC5", REPORT, "test", None)]:  # fmt: skip
        sheet.append(row)
    book.save(tmp_path / "reports_final.xlsx")
    values = [[1] * 30, [0] * 30, [-1] * 30, [""] * 30]
    rows = [[study, *row] for study, row in zip(["AC1", "AC2", "AC3", "404"], values, strict=True)]
    write_csv(tmp_path / "zero_shot_findings_disease_cls.csv", ["study id", *MERLIN_FINDINGS], rows)
    write_csv(tmp_path / "metadata.csv", ["study id", "age"], [["AC1", 50]])
    touch(tmp_path / "merlin_data", ["AC1", "AC2", "AC3", "404", "AC5"])
    return tmp_path


def test_merlin_reads_both_split_spellings_unknown_and_missing_labels(merlin):
    cohort = read_merlin(merlin)
    assert cohort.studies == ["AC1", "AC2", "AC3", "404", "AC5"]
    assert cohort.split_counts() == {"train": 1, "val": 2, "test": 2}
    assert cohort.findings == MERLIN_FINDINGS
    assert cohort.labels()[:, 7].tolist() == [1, 0, -1, -1, -1]
    assert cohort.paths[3] == merlin / "merlin_data" / "404.nii.gz"
    assert "1 studies have no row of labels" in cohort.summary()
    assert cohort.label_source == "csv"
    assert read_cohort(f"merlin:{merlin}").table.equals(cohort.table)


def test_merlin_volumes_and_reports_must_match_unless_partial(merlin):
    (merlin / "merlin_data" / "AC2.nii.gz").unlink()
    touch(merlin / "merlin_data", ["AC9"])
    with pytest.raises(CohortError, match="1 of 5 studies of the tables have no volume file and 1 of 5 volume files"):
        read_merlin(merlin)
    cohort = read_merlin(merlin, is_partial=True)
    assert cohort.studies == ["AC1", "AC3", "404", "AC5"]
    assert "1 of 5 studies of the tables have no volume" in cohort.summary()


def test_merlin_wrong_tables_are_refused(merlin):
    (merlin / "zero_shot_findings_disease_cls.csv").rename(merlin / "labels.csv")
    with pytest.raises(CohortError, match=r"no file zero_shot_findings_disease_cls\.csv"):
        read_merlin(merlin)
    write_csv(merlin / "zero_shot_findings_disease_cls.csv", ["study id", "ascites"], [["AC1", 1]])
    with pytest.raises(CohortError, match=r"columns \['submucosal_edema'"):
        read_merlin(merlin)
    (merlin / "reports_final.xlsx").write_bytes(b"no workbook")
    with pytest.raises(CohortError, match="workbook cannot be read"):
        read_merlin(merlin)


def test_merlin_strange_splits_and_doubled_ids_are_refused(merlin):
    (merlin / "reports_final.xlsx").unlink()
    write_csv(merlin / "reports_final.csv", ["study id", "Findings", "Split"], [["AC1", REPORT, "dev"]])
    with pytest.raises(CohortError, match=r"unknown split, values \['dev'\]"):
        read_merlin(merlin, is_partial=True)
    write_csv(merlin / "reports_final.csv", ["study id", "Findings", "Split"], [["AC1", REPORT, "train"]] * 2)
    with pytest.raises(CohortError, match=r"study AC1, .*: the id stands in more than one row of 2"):
        read_merlin(merlin, is_partial=True)


def volume_names(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [row["VolumeName"] for row in csv.DictReader(file)]


VOLUMES = ("train_1_a_1", "train_1_a_2", "train_1_b_1", "train_2_a_3", "valid_1_a_10", "valid_1_a_9")


@pytest.fixture
def ct_rate(tmp_path):
    header = ["VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"]
    for split, place in (("train", "train"), ("valid", "validation")):
        names = [name for name in VOLUMES if name.startswith(split)]
        rows = [[f"{name}.nii.gz", "Not given.", "Not given.", f"Of {name}.", ""] for name in names]
        write_csv(tmp_path / "radiology_text_reports" / f"{place}_reports.csv", header, rows)
        labels = [[f"{name}.nii.gz", *[number % 2] * 18] for number, name in enumerate(names)]
        write_csv(
            tmp_path / "multi_abnormality_labels" / f"{split}_predicted_labels.csv",
            ["VolumeName", *CT_RATE_FINDINGS],
            labels,
        )
        for name in names:
            patient, scan = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
            touch(tmp_path / "dataset" / split / patient / scan, [name])
    return tmp_path


def test_ct_rate_takes_the_first_reconstruction_of_each_scan(ct_rate):
    cohort = read_ct_rate(ct_rate, val_share=0.0)
    assert cohort.studies == ["train_1_a", "train_1_b", "train_2_a", "valid_1_a"]
    assert [path.name for path in cohort.paths] == [
        "train_1_a_1.nii.gz", "train_1_b_1.nii.gz", "train_2_a_3.nii.gz", "valid_1_a_9.nii.gz",
    ]  # fmt: skip
    assert cohort.patients == ["train_1", "train_1", "train_2", "valid_1"]
    assert cohort.split_counts() == {"train": 3, "test": 1}
    assert cohort.labels()[:, 0].tolist() == [0, 0, 1, 1]
    assert cohort.reports[0] == "FINDINGS: Of train_1_a_1."
    assert "4 of 6 volumes" in cohort.summary()


def test_ct_rate_can_take_every_reconstruction(ct_rate):
    cohort = read_ct_rate(ct_rate, reconstruction="all", val_share=0.0)
    assert cohort.studies == [*VOLUMES]
    assert cohort.patients.count("train_1") == 3
    with pytest.raises(CohortError, match="first, all"):
        read_ct_rate(ct_rate, reconstruction="best")


def test_ct_rate_validation_patients_are_chosen_by_their_ids_alone(tmp_path):
    names = [f"train_{patient}_{scan}_1" for patient in range(200) for scan in "ab"]
    rows = [[f"{name}.nii.gz", "Clear.", "Clear."] for name in names]
    write_csv(tmp_path / "train_reports.csv", ["VolumeName", "Findings_EN", "Impressions_EN"], rows)
    header = ["VolumeName", *CT_RATE_FINDINGS]
    write_csv(tmp_path / "train_predicted_labels.csv", header, [[f"{name}.nii.gz", *[0] * 18] for name in names])
    touch(tmp_path, names)
    cohort = read_ct_rate(tmp_path, val_share=0.2)
    assert 0.1 < cohort.split_counts()["val"] / 400 < 0.3
    half = read_ct_rate(tmp_path, val_share=0.1)
    assert set(half.split("val").patients) < set(cohort.split("val").patients)
    with pytest.raises(CohortError, match=r"val_share=1\.5"):
        read_ct_rate(tmp_path, val_share=1.5)


def test_ct_rate_names_of_another_form_are_refused(tmp_path):
    write_csv(
        tmp_path / "x_reports.csv", ["VolumeName", "Findings_EN", "Impressions_EN"], [["scan7.nii.gz", "Clear.", ""]]
    )
    write_csv(tmp_path / "x_labels.csv", ["VolumeName", *CT_RATE_FINDINGS], [])
    touch(tmp_path, ["scan7"])
    with pytest.raises(CohortError, match=r"study scan7, .*: volume names have the form train_1_a_1\.nii\.gz"):
        read_ct_rate(tmp_path)


def test_ct_rate_without_labels_or_reports_is_refused(ct_rate):
    for path in ct_rate.rglob("*_labels.csv"):
        path.unlink()
    with pytest.raises(CohortError, match=r"no table \*_labels\.csv"):
        read_ct_rate(ct_rate)


def test_ct_rate_reads_the_public_tables(tmp_path):
    names = volume_names(shared_labels("ctrate_valid_labels.csv"))
    (tmp_path / "valid_predicted_labels.csv").symlink_to(shared_labels("ctrate_valid_labels.csv"))
    write_csv(
        tmp_path / "valid_reports.csv", ["VolumeName", "Findings_EN", "Impressions_EN"], [[n, "x", ""] for n in names]
    )
    touch(tmp_path, [name.removesuffix(".nii.gz") for name in names])
    cohort = read_ct_rate(tmp_path)
    assert len(cohort) == 1564
    assert len(set(cohort.patients)) == 1304
    assert (cohort.labels() >= 0).all()


def test_ct_rate_reads_public_reports(tmp_path):
    source = shared_reports("ctrate_ctclip_as_reports_csv.csv")
    (tmp_path / "train_reports.csv").symlink_to(source)
    names = volume_names(source)
    write_csv(tmp_path / "train_labels.csv", ["VolumeName", *CT_RATE_FINDINGS], [])
    touch(tmp_path, [name.removesuffix(".nii.gz") for name in names])
    cohort = read_ct_rate(tmp_path)
    assert len(cohort) == len({name.rsplit("_", 1)[0] for name in names})
    assert f"{len(cohort)} studies have no row of labels" in cohort.summary()


def save_npz(path, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, ct=np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 1000)


@pytest.fixture
def rad_chestct(tmp_path):
    columns = ["nodule*left_lung", "nodule*right_lung", "nodulegr1cm*lung", "calcification*aorta", "emphysema*lung"]
    tables = {"train": [["trn1", 0, 1, 0, 1, 0]], "valid": [["val1", 0, 0, 1, 0, 1]], "test": [["tst1", 1, 1, 0, 0, 0]]}
    for split, rows in tables.items():
        path = tmp_path / f"img{split}_Abnormality_and_Location_Labels.csv"
        write_csv(path, ["NoteAcc_DEID", *columns], rows)
        save_npz(tmp_path / "volumes" / f"{rows[0][0]}.npz")
    return tmp_path


def test_rad_chestct_folds_locations_and_takes_splits_from_ids(rad_chestct):
    cohort = read_rad_chestct(rad_chestct)
    by_study = dict(zip(cohort.studies, cohort.labels().tolist(), strict=True))
    assert cohort.findings == ("Emphysema", "Lung nodule", "Calcification")
    assert by_study == {"trn1": [0, 1, 1], "val1": [1, 0, 0], "tst1": [0, 1, 0]}
    assert cohort.split_counts() == {"train": 1, "val": 1, "test": 1}
    assert cohort.reports == [""] * 3
    assert "no label columns for Atelectasis" in cohort.summary()
    assert "for evaluation only" in cohort.summary()


def test_rad_chestct_groups_by_patient_where_the_metadata_is(rad_chestct):
    header = ["NoteAcc_DEID", "MRN_DEID"]
    write_csv(rad_chestct / "CT_Scan_Metadata_Complete_35747.csv", header, [["trn1", "m7"], ["tst1", "m8"]])
    cohort = read_rad_chestct(rad_chestct)
    assert dict(zip(cohort.studies, cohort.patients, strict=True)) == {"trn1": "m7", "val1": "val1", "tst1": "m8"}
    assert "1 studies without one count as their own" in cohort.summary()


def test_calcification_scores_as_the_larger_of_its_two_parts(rad_chestct):
    cohort = read_rad_chestct(rad_chestct)
    prompts = default_prompts(CT_RATE_FINDINGS)
    images = np.random.default_rng(0).normal(size=(3, 32))
    table = score_cohort(images, cohort.studies, cohort=cohort, prompts=prompts, embed_texts=embed_words)
    parts = []
    for part in ("Arterial wall calcification", "Coronary artery wall calcification"):
        alone = cohort.table.append_column(part, cohort.table["Calcification"])
        single = type(cohort)(cohort.name, False, (part,), alone)
        parts.append(
            score_cohort(images, cohort.studies, cohort=single, prompts=prompts, embed_texts=embed_words).scores
        )
    assert table.findings == cohort.findings
    np.testing.assert_allclose(table.scores[:, 2], np.max(parts, axis=0)[:, 0])


def test_rad_chestct_wrong_folders_are_refused(rad_chestct):
    (rad_chestct / "volumes" / "tst1.npz").unlink()
    with pytest.raises(CohortError, match="1 of 3 studies of the tables have no volume file"):
        read_rad_chestct(rad_chestct)
    write_csv(rad_chestct / "imgtrain_Abnormality_and_Location_Labels.csv", ["NoteAcc_DEID", "a*b"], [["trn1", 0]])
    with pytest.raises(CohortError, match="no column 'abnormality"):
        read_rad_chestct(rad_chestct)
    with pytest.raises(CohortError, match="no table img"):
        read_rad_chestct(rad_chestct / "volumes")


def test_a_release_becomes_a_table_that_reads_the_same(merlin):
    cohort = read_merlin(merlin)
    write_table(cohort, merlin / "studies.csv")
    assert "merlin_data/AC1.nii.gz" in (merlin / "studies.csv").read_text()
    again = read_table(merlin / "studies.csv")
    assert again.table.select(cohort.table.column_names).equals(cohort.table)
    write_table(cohort, merlin / "studies.parquet")
    assert read_table(merlin / "studies.parquet").paths == cohort.paths
    with pytest.raises(CohortError, match=r"\.csv or \.parquet"):
        write_table(cohort, merlin / "studies.txt")


def test_a_source_names_its_kind(merlin):
    for source in ("merlin", "nifti:there", "merlin:"):
        with pytest.raises(CohortError, match="table, phantom, merlin, ct-rate, rad-chestct"):
            read_cohort(source)
    write_table(read_merlin(merlin), merlin / "t.csv")
    assert len(read_cohort(f"table:{merlin / 't.csv'}")) == 5
    with pytest.raises(CohortError, match="name label columns of a table"):
        read_cohort(f"merlin:{merlin}", findings=["ascites"])
