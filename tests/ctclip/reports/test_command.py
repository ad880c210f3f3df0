"""`ctclip reports` shows what the rules read, scores them where labels are, and writes a table that can be read."""

import argparse
import csv
import json

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from ctclip.errors import CohortError, ReportError
from ctclip.reports.command import add_reports_arguments, main, run_reports
from ctclip.reports.reading import read_reports
from tests.shared_data import reports as shared_reports

REPORT = "FINDINGS: Liver: Normal. Peritoneal cavity: Ascites. Bones: No fracture. IMPRESSION: Ascites."


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_one_report_is_shown_with_sections_verdicts_and_findings(tmp_path, capsys):
    assert main([str(write(tmp_path / "r.txt", REPORT))]) == 0
    shown = capsys.readouterr().out
    assert "== r: abnormal" in shown
    assert "sections: liver normal, peritoneum abnormal, musculoskeletal normal" in shown
    assert "abnormal   [peritoneum] Ascites.   (9 finding: Ascit)" in shown
    assert "finding ascites: present (Ascites)" in shown
    assert "finding fracture: absent (No fracture)" in shown
    assert "coverage: rules decided 100.0%" in shown


def test_a_table_with_labels_scores_the_rules(tmp_path, capsys):
    rows = "study,report,ascites,fracture\na,Ascites.,1,0\nb,No ascites.,0,0\nc,Fracture.,0,1\nd,Normal.,1,\ne,,1,1\n"
    main([str(write(tmp_path / "t.csv", rows)), "--limit", "0"])
    shown = capsys.readouterr().out
    assert "4 reports, 1 rows without text" in shown
    assert "==" not in shown
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line[:4] in ("asci", "frac")}
    assert lines == {"ascites": ["2", "1", "0", "0.667"], "fracture": ["1", "1", "0", "1.000"]}
    assert "macro F1 0.833 over 2 findings" in shown


def test_one_class_only_has_no_score(tmp_path, capsys):
    main([str(write(tmp_path / "t.csv", "study,report,ascites\na,Ascites.,1\n")), "--limit", "0"])
    assert "macro F1 - over 0 findings" in capsys.readouterr().out


def test_the_table_written_can_be_joined(tmp_path, capsys):
    source = write(tmp_path / "t.csv", f'study,report\na,"{REPORT}"\nb,Normal.\n')
    main([str(source), "--out", str(tmp_path / "out.csv")])
    with (tmp_path / "out.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["abnormal:report"], first["abnormal:liver"], first["abnormal:spleen"]) == ("1", "0", "-1")
    assert (first["ascites"], first["fracture"], first["gallstones"]) == ("1", "0", "-1")
    assert second["abnormal:report"] == "0"
    main([str(source), "--out", str(tmp_path / "out.csv"), "--closed", "--findings", "ct-rate"])
    with (tmp_path / "out.csv").open() as file:
        assert next(csv.DictReader(file))["Lung nodule"] == "0"  # not mentioned, so absent
    assert "wrote 2 rows" in capsys.readouterr().out


def test_low_coverage_is_said_aloud(tmp_path, capsys):
    text = "The appearance of the region seems to be of the kind that some people once thought about at great length."
    main([str(write(tmp_path / "r.txt", text)), "--findings", "none"])
    assert "quotas of normal and abnormal studies will be refused" in capsys.readouterr().out


def test_a_study_can_be_asked_for(tmp_path, capsys):
    source = write(tmp_path / "t.csv", "study,report\na,Normal.\nb,Cyst.\n")
    main([str(source), "--study", "b"])
    shown = capsys.readouterr().out
    assert "== b" in shown
    assert "== a" not in shown
    with pytest.raises(ReportError, match="study z"):
        main([str(source), "--study", "z"])


def test_the_arguments_fit_a_parser_of_the_program(tmp_path):
    parser = argparse.ArgumentParser()
    add_reports_arguments(parser)
    assert run_reports(parser.parse_args([str(write(tmp_path / "r.txt", REPORT)), "--limit", "0"])) == 0


def test_all_kinds_of_files_give_the_same_texts(tmp_path):
    lines = write(tmp_path / "r.jsonl", json.dumps({"id": "a", "text": REPORT}) + "\n\n" + json.dumps({"id": "b"}))
    table = write(tmp_path / "r.csv", f'study,report\na,"{REPORT}"\nb,\n')
    pa_parquet.write_table(pa.table({"study": ["a", "b"], "mine": [REPORT, None]}), tmp_path / "r.parquet")
    found = [read_reports(lines), read_reports(table), read_reports(tmp_path / "r.parquet", column="mine")]
    assert [(one.names, one.texts, one.num_blank) for one in found] == [(("a",), (REPORT,), 1)] * 3


def test_ct_rate_columns_become_one_text(tmp_path):
    columns = (
        "VolumeName,Findings_EN,Impressions_EN\nv_1_a_1.nii.gz,Clear lungs.,\nv_2_a_1.nii.gz,Nodule.,One nodule.\n"
    )
    found = read_reports(write(tmp_path / "r.csv", columns))
    assert found.names[0] == "v_1_a_1.nii.gz"
    assert found.texts == ("FINDINGS: Clear lungs.", "FINDINGS: Nodule. IMPRESSION: One nodule.")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.docx", "x", "not from '.docx'"),
        ("r.txt", "  \n", "no report text"),
        ("r.csv", "study,words\na,b\n", "no column report or report_text"),
        ("r.jsonl", "no", "no JSON"),
        ("r.jsonl", "[1]", "JSON object"),
    ],
)
def test_files_without_reports_are_refused(tmp_path, name, text, message):
    with pytest.raises(ReportError, match=message):
        read_reports(write(tmp_path / name, text))


def test_other_bad_files_are_refused(tmp_path):
    with pytest.raises(ReportError, match="no such file"):
        read_reports(tmp_path / "absent.txt")
    (tmp_path / "r.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ReportError, match="UTF-8"):
        read_reports(tmp_path / "r.txt")
    with pytest.raises(CohortError, match="no label, such as"):
        read_reports(write(tmp_path / "r.csv", "study,report,ascites\na,b,maybe\n"))


def test_the_real_tables_are_read(capsys):
    main([str(shared_reports("ctrate_ctclip_labelled_reports.csv")), "--limit", "1"])
    assert "macro F1 0.9" in capsys.readouterr().out
    assert len(read_reports(shared_reports("ctrate_ctclip_as_reports_csv.csv")).texts) == 681
