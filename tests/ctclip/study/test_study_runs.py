"""A small study on disk, from its plan to its page."""

import csv
import itertools
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ctclip.cli import main
from ctclip.data import open_training_data
from ctclip.errors import StudyError
from ctclip.study.arm import Arm, arms_of
from ctclip.study.cell_run import cell_folder, read_result, run_cell
from ctclip.study.command import pilot_text, write_tables
from ctclip.study.execution import batch_commands, cell_command, estimate_cost, run_cells
from ctclip.study.exposure import count_exposure
from ctclip.study.grid import cells_of, write_study
from ctclip.study.planning import plan_study
from tests.ctclip.browser import open_in_chromium
from tests.ctclip.learnable import SECTIONS
from tests.ctclip.study.cohort import FINDINGS, small_study, write_study_cohort


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study-cohort")
    return folder, write_study_cohort(folder)


@pytest.fixture(scope="module")
def finished(cohort_folder, tmp_path_factory):
    """A whole grid, run in this process: three arms, two seeds."""
    folder, cohort = cohort_folder
    out = tmp_path_factory.mktemp("study")
    study = plan_study(small_study(folder), cohort, out)
    write_study(study, out)
    for cell in cells_of(study, out):
        run_cell(study, cell, out, cohort=cohort)
    return study, out, write_tables(study, out)


def test_a_plan_takes_whole_epochs_and_sections_that_every_arm_can_fill(cohort_folder, tmp_path):
    folder, cohort = cohort_folder
    study = plan_study(small_study(folder), cohort, tmp_path)
    assert study.base.steps == 12
    assert study.base.data.twin_epochs == 1
    assert study.base.data.sections == SECTIONS
    assert any("48" in line for line in study.cohort_summary)


def test_every_batch_has_its_ratio_and_a_twin_is_its_arm_permuted(cohort_folder, tmp_path):
    folder, cohort = cohort_folder
    study = plan_study(small_study(folder, seeds=(0,)), cohort, tmp_path)
    study = replace(study, base=replace(study.base, steps=48, data=replace(study.base.data, twin_epochs=4)))
    seen = {
        cell.arm.title: count_exposure(open_training_data(cell.config, cohort), steps=48)
        for cell in cells_of(study, tmp_path)
    }
    arm, twin, random = seen["50:50"], seen["50:50-twin"], seen["random"]
    assert arm.normal_share == 0.5
    assert arm.normal_share_sd == 0
    assert twin.normal_share == 0.5
    assert twin.normal_share_sd > 0.05
    assert (twin.unique_studies, twin.finding_draws) == (arm.unique_studies, arm.finding_draws)
    assert arm.unit_steps == random.unit_steps
    assert arm.num_draws == random.num_draws == 48 * 4
    assert random.normal_share < 0.45


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": (Arm(), Arm("100:0"), Arm("1:99"))}, "arm '100:0' leaves no section that all arms can fill"),
        ({"findings": ("block_in_liver", "ascites")}, "no label column 'ascites'"),
    ],
)
def test_what_cannot_be_filled_is_refused_before_anything_is_trained(cohort_folder, tmp_path, changes, message):
    folder, cohort = cohort_folder
    study = small_study(folder, **changes)
    study = replace(study, base=replace(study.base, data=replace(study.base.data, batch_size=40)))
    with pytest.raises(StudyError, match=message):
        plan_study(study, cohort, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_share_that_leaves_a_finding_without_positives_is_refused_naming_arm_seed_and_finding(
    cohort_folder, tmp_path
):
    folder, cohort = cohort_folder
    study = small_study(folder, arms=(Arm(), Arm(fraction=0.02)), kind="data-scaling")
    message = r"arm 'random, 2% of the data', seed 0, cannot be run: .* no positive study of 'block_in_"
    with pytest.raises(StudyError, match=message):
        plan_study(study, cohort, tmp_path)


def test_shares_that_no_default_names_lie_in_each_other(cohort_folder, tmp_path):
    folder, cohort = cohort_folder
    arms = tuple(Arm(fraction=share) for share in (1.0, 0.75, 0.5, 0.3))
    study = plan_study(small_study(folder, arms=arms, kind="data-scaling"), cohort, tmp_path)
    for seed in study.seeds:
        drawn = [
            set(open_training_data(cell.config, cohort).studies.ids)
            for cell in cells_of(study, tmp_path)
            if cell.seed == seed
        ]
        assert [len(studies) for studies in drawn] == [48, 36, 24, 14]
        assert all(smaller < larger for larger, smaller in itertools.pairwise(drawn))


def test_the_tables_hold_every_cell_and_the_summary_every_difference(finished):
    study, out, summary = finished
    rows = list(csv.DictReader((out / "cells.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert {row["strategy"] for row in rows} == {"random", "50:50", "50:50-twin"}
    assert {row["steps"] for row in rows} == {str(study.base.steps)}
    assert [effect["name"] for effect in summary["effects"]["f1"]] == [
        "50:50 - random", "50:50 - 50:50-twin", "50:50-twin - random",
    ]  # fmt: skip
    for metric in ("f1", "auroc"):
        for effect in summary["effects"][metric]:
            a, b = (summary["arms"][effect[side]]["by_seed"][metric] for side in "ab")
            assert effect["value"] == pytest.approx(sum(x - y for x, y in zip(a, b, strict=True)) / 2)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert not list(out.glob("cells/*/run/checkpoints"))


def test_the_page_draws_its_plots_and_says_nothing_in_the_console(finished, tmp_path):
    _, out, _ = finished
    page = out / "study.html"
    opened = open_in_chromium(page, tmp_path)
    assert opened.console == []
    assert opened.requests == []
    assert len(opened.drawn) == 6
    assert all(drawn["paths"] > 3 and drawn["width"] > 100 for drawn in opened.drawn)
    assert "50:50-twin" in page.read_text()


def test_a_weak_instrument_gives_no_verdict_and_a_strong_one_does(finished):
    study, out, _ = finished
    for least, words in ((0.0, {"unresolved", "same direction", "opposite"}), (1.01, {"instrument too weak"})):
        summary = write_tables(replace(study, min_auroc=least), out)
        assert {claim["verdict"] for claim in summary["claims"]} <= words
        assert ("instrument too weak" in (out / "study.html").read_text()) == (least > 1)
    write_tables(study, out)


def test_finished_cells_are_never_run_again_and_a_cell_alone_has_the_bits_of_the_grids(
    finished, cohort_folder, tmp_path
):
    study, out, _ = finished
    _, cohort = cohort_folder
    cells = cells_of(study, out)
    before = {cell.name: (cell_folder(out, cell) / "result.json").stat().st_mtime_ns for cell in cells}
    run_cells(out, cells, jobs=2)
    assert {cell.name: (cell_folder(out, cell) / "result.json").stat().st_mtime_ns for cell in cells} == before
    alone = cells_of(study, tmp_path)[-1]
    result = run_cell(study, alone, tmp_path, cohort=cohort)
    in_grid = read_result(out, cells[-1])
    assert in_grid is not None
    for name in ("scores_digest", "macro", "exposure", "last_loss"):
        assert result[name] == in_grid[name]


def test_a_cell_killed_in_training_ends_with_the_bits_of_one_that_was_not(finished, cohort_folder, tmp_path):
    study, out, _ = finished
    cell = cells_of(study, tmp_path)[0]
    write_study(study, tmp_path)
    started = subprocess.Popen(cell_command(tmp_path, cell), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = Path(cell.config.out) / "metrics.jsonl"
    while started.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 1):
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert read_result(tmp_path, cell) is None
    result = run_cell(study, cell, tmp_path, cohort=cohort_folder[1])
    reference = read_result(out, cells_of(study, out)[0])
    assert reference is not None
    assert result["scores_digest"] == reference["scores_digest"]


def test_the_command_goes_from_a_cohort_to_the_page_and_twice_to_the_same_table(cohort_folder, tmp_path, capsys):
    folder, _ = cohort_folder
    words = ["study", "data-scaling", "--out", str(tmp_path / "s"), "--cohort", f"table:{folder / 'studies.csv'}"]
    words += [
        "--store",
        str(folder / "store"),
        "--prompts",
        str(folder / "prompts.json"),
        "--findings",
        *FINDINGS.values(),
    ]
    words += ["--seeds", "1", "--fractions", "0.5", "1.0", "--bootstraps", "50", "--jobs", "2"]
    words += ["--steps", "6", "--threads", "1", "--device", "cpu", "--data.batch-size", "4"]
    words += ["--data.pipeline", "reference", "--data.sections", *SECTIONS]
    assert main([*words, "--plan"]) == 0
    assert "2 cells, 0 done" in capsys.readouterr().out
    assert main([*words, "--list"]) == 0
    assert capsys.readouterr().out.count("study cell --out") == 2
    assert main(words) == 0
    first = (tmp_path / "s" / "cells.csv").read_text()
    assert "random, 50% of the data - random" in capsys.readouterr().out
    assert main(words) == 0
    assert (tmp_path / "s" / "cells.csv").read_text() == first
    assert main(["study", "page", "--out", str(tmp_path / "s")]) == 0


def test_the_pilot_says_what_the_grid_could_find(finished):
    study, out, summary = finished
    smallest = summary["detectable_from_pilot"]["f1"]
    assert f"a difference of {smallest:.3f} in macro F1" in pilot_text(study, out)
    alone = replace(study, seeds=(0,))
    assert "one seed alone" in pilot_text(alone, out)


def test_failed_cells_are_named_with_what_they_said_and_the_others_are_done(finished, tmp_path):
    study, _, _ = finished
    broken = replace(study, base=replace(study.base, store=str(tmp_path / "nowhere")), seeds=(0,), arms=study.arms[:1])
    write_study(broken, tmp_path)
    with pytest.raises(StudyError, match=r"1 of 1 cells failed.*nowhere"):
        run_cells(tmp_path, cells_of(broken, tmp_path), jobs=1)


def test_the_cost_counts_what_is_left(finished, cohort_folder, tmp_path):
    study, out, _ = finished
    cost = estimate_cost(out, cells_of(study, out), jobs=1, cohort=cohort_folder[1])
    assert (cost.num_cells, cost.num_done, cost.hours) == (6, 6, 0)
    more = replace(study, arms=arms_of("batch-composition", ratios=("50:50", "25:75")))
    cells = cells_of(more, out)
    left = estimate_cost(out, cells, jobs=2, cohort=cohort_folder[1])
    assert left.num_done == 6
    assert left.hours == pytest.approx(4 * left.cell_s / 2 / 3600)
    assert batch_commands(out, cells).count("\n") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study", "batch-composition", "--out", "x", "--cohort", "table:none.csv"], "no store was given|none.csv"),
        (["study", "cell", "--out", "nowhere", "--name", "x"], "study.json is missing"),
        (["study", "page", "--out", "nowhere"], "study.json is missing"),
        (["study", "methods", "--out", "x", "--cohort", "phantom:y", "--phantom-knobs", "loud"], "no phantom knobs"),
    ],
)  # fmt: skip
def test_wrong_words_are_typed_errors(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert any(part in said for part in message.split("|"))
