"""The record that a repository keeps of a study: what it holds, and what must not be in it."""

import csv
import json
from pathlib import Path

import pytest

from ctclip.cli import main
from ctclip.errors import StudyError
from ctclip.study.arm import Arm
from ctclip.study.cell_run import run_cell
from ctclip.study.command import write_tables
from ctclip.study.grid import cells_of, write_study
from ctclip.study.planning import plan_study
from ctclip.study.record import note_command, without_folders, write_record
from tests.ctclip.study.cohort import small_study, write_study_cohort


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two arms, one seed, all finished; no command noted."""
    folder, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("study")
    cohort = write_study_cohort(folder)
    study = plan_study(small_study(folder, seeds=(0,), arms=(Arm(), Arm("50:50"))), cohort, out)
    write_study(study, out)
    for cell in cells_of(study, out):
        run_cell(study, cell, out, cohort=cohort)
    return study, out, write_tables(study, out)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_record_holds_the_tables_the_page_the_commands_and_no_folder_of_this_machine(finished, tmp_path):
    study, out, summary = finished
    words = ["batch-composition", "--out", str(out), "--cohort", study.base.cohort, "--steps", "6"]
    written = write_record(study, out, tmp_path / "r", summary=summary, command="ctclip study " + " ".join(words))
    names = {"study.json", "commands.txt", "cells.csv", "effects.csv", "findings.csv", "summary.json", "page.md"}
    assert {path.name for path in written} == {path.name for path in (tmp_path / "r").iterdir()} == names
    text = "\n".join(path.read_text() for path in written)
    assert str(out.parent) not in text
    assert f"--out {out.name} --cohort table:studies.csv --steps 6" in (tmp_path / "r" / "commands.txt").read_text()
    assert len(rows_of(tmp_path / "r" / "cells.csv")) == 2
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["kind"] == study.kind
    assert sum(path.stat().st_size for path in written) < 1 << 20


def test_the_csv_tables_have_the_numbers_of_the_summary(finished, tmp_path):
    study, out, summary = finished
    write_record(study, out, tmp_path, summary=summary, command="x")
    effects = rows_of(tmp_path / "effects.csv")
    assert {row["metric"] for row in effects} == set(summary["effects"])
    first = summary["effects"][effects[0]["metric"]][0]
    assert (effects[0]["name"], effects[0]["p"]) == (first["name"], "")  # one seed has no p
    assert float(effects[0]["value"]) == pytest.approx(first["value"], rel=1e-5)
    findings = rows_of(tmp_path / "findings.csv")
    assert [row["finding"] for row in findings] == list(study.findings)
    prevalence = summary["findings"][0]["findings"][findings[0]["finding"]]["prevalence"]
    assert float(findings[0]["prevalence"]) == pytest.approx(prevalence)


def test_the_page_as_markdown_has_every_section_table_and_notice_of_the_page(finished, tmp_path):
    study, out, summary = finished
    write_record(study, out, tmp_path, summary=summary, command="x")
    text, page = (tmp_path / "page.md").read_text(), (out / "study.html").read_text()
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) > 4
    assert all(f">{heading}</h2>" in page for heading in headings)
    assert ("instrument too weak" in text) == ("instrument too weak" in page)
    assert text.count("\n|---") == page.count("<table>")
    lines = text.splitlines()
    table = lines[next(row for row, line in enumerate(lines) if line.startswith("| arm | steps")) :]
    assert {line.count(" | ") for line in table[2:4]} == {table[0].count(" | ")}
    assert "cells)" in next(line for line in lines if line.startswith("- commits: "))


def test_commands_are_noted_once_each_with_their_commit(tmp_path):
    for words in (["a", "--seeds", "2"], ["a", "--seeds", "2"], ["a", "--findings", "two words"]):
        note_command(tmp_path, words)
    lines = (tmp_path / "commands.txt").read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "ctclip study a --seeds 2", "ctclip study a --findings 'two words'",
    ]  # fmt: skip


def test_a_study_without_a_command_has_no_record(finished, tmp_path):
    study, out, summary = finished
    with pytest.raises(StudyError, match="--command"):
        write_record(study, out, tmp_path / "r", summary=summary)
    assert not (tmp_path / "r").exists()


def test_the_command_line_writes_the_record(finished, tmp_path, capsys):
    _, out, _ = finished
    words = ["study", "record", "--out", str(out), "--to", str(tmp_path / "r")]
    assert main(words) == 2
    assert "--command" in capsys.readouterr().err
    assert main([*words, "--command", "ctclip study batch-composition"]) == 0
    assert "page.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"cohort": "merlin:/data/a/x.csv"', '"cohort": "merlin:x.csv"'),
        ("--out=/tmp/x --reuse /a/b /c/d.e", "--out=x --reuse b d.e"),
        ("3/4, a / b, F1/AUROC, https://a.b/c", "3/4, a / b, F1/AUROC, https://a.b/c"),
        ("runs/ratios ../x ./y", "runs/ratios ../x ./y"),
    ],
)
def test_absolute_paths_are_cut_down_and_nothing_else_is(text, kept):
    assert without_folders(text) == kept
