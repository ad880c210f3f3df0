"""Cells that another study has finished: taken over where they are the same, refused with the reason where not."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ctclip.cli import main
from ctclip.cohorts.cohort import Cohort
from ctclip.errors import StudyError
from ctclip.evaluation.zeroshot import load_scores, save_scores
from ctclip.study.arm import Arm
from ctclip.study.cell_run import read_result, run_cell
from ctclip.study.grid import StudyConfig, cells_of, write_study
from ctclip.study.planning import plan_study
from ctclip.study.reuse import reuse_cells
from ctclip.study.summary import summarise
from tests.ctclip.study.cohort import FINDINGS, small_study, write_study_cohort

SCALES = (Arm(), Arm(fraction=0.5))


@pytest.fixture(scope="module")
def ratios(tmp_path_factory):
    """A ratio study with one finished cell, random batches at seed 0; its folder, the data's folder, the cohort."""
    folder, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("ratios")
    cohort = write_study_cohort(folder)
    study = plan_study(small_study(folder), cohort, out)
    write_study(study, out)
    run_cell(study, cells_of(study, out)[0], out, cohort=cohort)
    return out, folder, cohort


def scaling_study(folder: Path, cohort: Cohort, out: Path, **changes) -> StudyConfig:
    study = small_study(folder, kind="data-scaling", arms=SCALES, seeds=(0,))
    return plan_study(replace(study, **changes), cohort, out)


def finished_folder(out: Path) -> Path:
    (found,) = out.glob("cells/*/result.json")
    return found.parent


def edit_result(out: Path, **changes) -> None:
    path = finished_folder(out) / "result.json"
    result = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in result.items() if value is not None}))


def test_a_finished_cell_of_another_study_is_copied_and_keeps_its_commit_date_and_machine(ratios, tmp_path):
    theirs, folder, cohort = ratios
    study = scaling_study(folder, cohort, tmp_path)
    (reuse,) = reuse_cells(study, tmp_path, [theirs], cohort=cohort)
    assert (reuse.refusal, reuse.cell.arm.title, reuse.source) == ("", "random", theirs)
    first, second = cells_of(study, tmp_path)
    result = read_result(tmp_path, first) or {}
    assert result == {
        **json.loads((finished_folder(theirs) / "result.json").read_text()),
        "taken_from": "batch-composition",
    }
    assert read_result(tmp_path, second) is None
    assert not list(tmp_path.glob("cells/*/run/checkpoints"))
    summary = summarise(study, tmp_path)
    assert summary["taken_from"] == {"batch-composition": 1}
    assert summary["arms"]["random"]["scores"]["auroc"]["mean"] == pytest.approx(result["macro"]["auroc"])
    assert reuse_cells(study, tmp_path, [theirs], cohort=cohort) == []


def test_a_copied_cell_has_the_bits_of_one_that_is_trained_here(ratios, tmp_path):
    theirs, folder, cohort = ratios
    study = scaling_study(folder, cohort, tmp_path)
    result = run_cell(study, cells_of(study, tmp_path)[0], tmp_path, cohort=cohort)
    other = json.loads((finished_folder(theirs) / "result.json").read_text())
    for name in ("scores_digest", "macro", "exposure", "last_loss", "data"):
        assert result[name] == other[name]


@pytest.mark.parametrize("changes", [{"threshold_from": "argmax"}, {"findings": tuple(FINDINGS.values())[:2]}])
def test_other_rules_or_another_configuration_have_no_such_cell(ratios, tmp_path, changes):
    theirs, folder, cohort = ratios
    assert reuse_cells(scaling_study(folder, cohort, tmp_path, **changes), tmp_path, [theirs], cohort=cohort) == []


def damaged_scores(out: Path, **_) -> None:
    path = finished_folder(out) / "scores_test.npz"
    table = load_scores(path)
    save_scores(replace(table, scores=table.scores + 1e-9), path)


def swapped_validation(out: Path, **_) -> None:
    path = finished_folder(out) / "scores_val.npz"
    table = load_scores(path)
    save_scores(replace(table, scores=-table.scores), path)


def cut_scores(out: Path, **_) -> None:
    path = finished_folder(out) / "scores_test.npz"
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damaged_scores, "digest or the means"),
        (swapped_validation, "digest or the means"),
        (cut_scores, "cannot be read"),
        (lambda out: (finished_folder(out) / "result.json").write_text("{"), "cannot be read"),
        (lambda out: edit_result(out, cell="random_seed7_0000000000"), "of another cell"),
        (lambda out: edit_result(out, scores_digest=None), "cannot be read"),
        (
            lambda out: edit_result(out, data={"cohort": "0", "store": "0"}),
            "its cohort and store and prompts had other",
        ),
    ],
)
def test_a_cell_whose_files_do_not_match_is_refused_and_left_to_be_trained(ratios, tmp_path, spoil, reason):
    theirs, folder, cohort = ratios
    spoilt = Path(shutil.copytree(theirs, tmp_path / "theirs"))
    spoil(spoilt)
    study = scaling_study(folder, cohort, tmp_path / "ours")
    (reuse,) = reuse_cells(study, tmp_path / "ours", [spoilt], cohort=cohort)
    assert reason in reuse.refusal
    assert reuse.refusal in str(reuse)
    assert read_result(tmp_path / "ours", reuse.cell) is None


def test_a_changed_word_in_one_report_makes_it_another_cohort(ratios, tmp_path):
    theirs, folder, cohort = ratios
    reports = cohort.reports
    table = cohort.table.set_column(
        cohort.table.column_names.index("report"), "report", pa.array([*reports[:-1], reports[-1] + " Thank you."])
    )
    changed = replace(cohort, table=table)
    study = scaling_study(folder, changed, tmp_path)
    (reuse,) = reuse_cells(study, tmp_path, [theirs], cohort=changed)
    assert reuse.refusal == "its cohort had other contents (digests differ)"


def test_a_result_without_digests_is_taken_only_where_nothing_was_written_since(ratios, tmp_path):
    theirs, folder, cohort = ratios
    old = Path(shutil.copytree(theirs, tmp_path / "old"))
    edit_result(old, data=None)
    began = finished_folder(old) / "run" / "config.json"
    study = scaling_study(folder, cohort, tmp_path / "ours")
    os.utime(began, (0, 0))
    (refused,) = reuse_cells(study, tmp_path / "ours", [old], cohort=cohort)
    assert "was written after it began" in refused.refusal
    os.utime(began)
    seen = json.loads((finished_folder(old) / "result.json").read_text())["exposure"]
    edit_result(old, exposure={**seen, "unique_studies": 1})
    (refused,) = reuse_cells(study, tmp_path / "ours", [old], cohort=cohort)
    assert refused.refusal == "it drew other studies or findings"
    edit_result(old, exposure={**seen, "finding_draws": {**seen["finding_draws"], "one_more": 3}})
    (taken,) = reuse_cells(study, tmp_path / "ours", [old], cohort=cohort)
    assert taken.refusal == ""


def test_a_study_reuses_other_studies_alone(ratios, tmp_path):
    _, folder, cohort = ratios
    study = scaling_study(folder, cohort, tmp_path)
    with pytest.raises(StudyError, match=r"study\.json is missing"):
        reuse_cells(study, tmp_path, [tmp_path / "nowhere"], cohort=cohort)
    with pytest.raises(StudyError, match="its own cells"):
        reuse_cells(study, tmp_path, [tmp_path / "." / ""], cohort=cohort)


def test_the_command_says_what_was_taken_and_runs_the_rest(ratios, tmp_path, capfd):
    theirs, folder, _ = ratios
    words = ["study", "data-scaling", "--out", str(tmp_path / "s"), "--cohort", f"table:{folder / 'studies.csv'}"]
    words += ["--store", str(folder / "store"), "--prompts", str(folder / "prompts.json")]
    words += ["--findings", *FINDINGS.values(), "--fractions", "1.0", "--seeds", "1", "--steps", "6"]
    assert main([*words, "--device", "cpu", "--plan", "--reuse", str(theirs)]) == 0
    assert "no other study has a finished cell of this one" in capfd.readouterr().err
    assert main([*words, "--device", "cpu", "--plan", "--reuse", str(tmp_path / "nowhere")]) == 2
    assert "study.json is missing" in capfd.readouterr().err
