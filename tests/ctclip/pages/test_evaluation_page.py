"""The page of an evaluation is whole, needs nothing but itself, and is drawn by a browser without an error."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctclip.errors import EvaluationError
from ctclip.evaluation.compare import compare_scores
from ctclip.evaluation.diagnostics import diagnose
from ctclip.evaluation.pointing import pointing_report
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.report import report_scores
from ctclip.evaluation.score_text import format_report
from ctclip.evaluation.scoring import scores_path
from ctclip.evaluation.zeroshot import ScoreTable, save_scores
from ctclip.findings import MERLIN_FINDINGS
from ctclip.pages.comparison_page import write_comparison_page
from ctclip.pages.evaluation_page import write_evaluation_page
from ctclip.texts.prompts import default_prompts
from tests.ctclip.browser import open_in_chromium
from tests.ctclip.score_tables import embed_words, make_cohort_of, make_labels, make_table

FEW = EvaluateOptions(num_bootstraps=60)
REPORTS = [
    "Liver: Steatosis. Spleen: Enlarged.",
    "Liver: Normal. Kidneys: Cyst.",
    "Lower thorax: Clear. Bowel: Normal.",
]
SECTIONS = ("Scores", "ROC curves", "Similarities", "Reliability", "Retrieval", "Prompt robustness", "Collapse",
            "Pointing game", "Normal studies", "Stamps and configuration")  # fmt: skip


def whole_report(table: ScoreTable, options: EvaluateOptions = FEW) -> dict:
    """Every part that a report can have, from made-up embeddings."""
    cohort = make_cohort_of(table.labels, findings=table.findings)
    texts = cohort.table.set_column(cohort.table.column_names.index("report"), "report", [REPORTS * (len(table) // 3)])
    cohort = replace(cohort, table=texts)
    rng = np.random.default_rng(0)
    images = embed_words(cohort.reports) + rng.normal(size=(len(table), 32))
    extra = diagnose(images, cohort, prompts=default_prompts(table.findings), embed_texts=embed_words, options=options)
    hits = rng.integers(-1, 2, table.labels.shape).astype(np.int8)
    pointing = pointing_report(
        hits, np.full(hits.shape, 0.1), findings=table.findings, patients=table.patients, num_bootstraps=60
    )
    pointing |= {"mask_kind": "finding", "tolerance_mm": 0.0, "token_grid": [5, 7, 7]}
    return {**report_scores(table, options=options), **extra, "pointing": pointing}


def write_run(folder: Path, table: ScoreTable, report: dict) -> Path:
    folder.mkdir()
    scores_path(folder, "test").write_text(json.dumps(report, allow_nan=False))
    save_scores(table, scores_path(folder, "test").with_suffix(".npz"))
    (folder / "config.json").write_text('{"steps": 500, "note": "<b>"}')
    return write_evaluation_page(folder, "test")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    labels = make_labels(90, findings=MERLIN_FINDINGS)
    labels[:, 3] = 0  # one class only
    table = make_table(90, findings=MERLIN_FINDINGS, labels=labels)
    return write_run(tmp_path_factory.mktemp("page") / "run", table, whole_report(table))


def test_every_plot_is_drawn_and_the_console_is_silent(page: Path, tmp_path: Path) -> None:
    opened = open_in_chromium(page, tmp_path)
    assert opened.console == []
    assert opened.requests == []
    assert opened.num_repeated_ids == 0
    assert opened.overflow <= 0
    assert len(opened.drawn) == 8
    for figure in opened.drawn:
        assert figure["label"]
        assert figure["width"] > 300
        assert figure["height"] > 150
        assert figure["paths"] > 10
        assert figure["texts"] > 3
        assert len(figure["colours"]) >= 3


def test_a_broken_page_is_noticed_by_the_same_look(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><html><body><svg></svg><script>missing();</script></body></html>")
    opened = open_in_chromium(bad, tmp_path)
    assert any("missing is not defined" in line for line in opened.console)
    assert opened.drawn[0]["paths"] == 0


def test_the_page_has_every_section_and_asks_for_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [re.sub("<.*?>", "", heading) for heading in re.findall(r"<h2.*?</h2>", text)] == [
        *SECTIONS[:-1], "Undefined or left out", SECTIONS[-1]
    ]  # fmt: skip
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert not re.search(r"<script|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert "#010101" not in text.lower()
    assert "&lt;b&gt;" in text


def test_every_table_and_figure_can_be_read_by_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert '<html lang="en">' in text
    assert (
        len(re.findall(r'<svg role="img" aria-label="[^"]+', text)) == text.count("<svg") == text.count("<figcaption>")
    )
    assert text.count("<table>") == text.count("<thead>")
    assert "<th>" not in text


def test_the_terminal_has_a_line_for_every_part() -> None:
    lines = format_report(whole_report(make_table(90))).splitlines()
    for start in ("recall at 10: image to report", "macro AUROC over 10", "collapse: sentences no", "pointing game"):
        assert any(line.startswith(start) for line in lines)
    bare = report_scores(make_table(90), options=FEW) | {"left_out": {"retrieval": "the cohort has no reports"}}
    assert "left out: retrieval: the cohort has no reports" in format_report(bare)


def test_stamps_baselines_and_what_is_undefined_are_on_the_page(page: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
    assert "Every study on this page is synthetic" in text
    assert "always positive (macro mean)" in text
    assert "0.667" in text
    assert "coronary calcification" in text
    assert "0 positive and 90 negative studies; both are needed" in text
    for stamp in ("label source", "threshold from", "synthetic", "prompts", "num bootstraps"):
        assert stamp in text


def test_optimistic_thresholds_and_labels_by_rules_are_said_aloud(tmp_path: Path) -> None:
    table = make_table(60)
    table = replace(table, stamp={**table.stamp, "synthetic": "no", "label_source": "rules"})
    page = write_run(tmp_path / "run", table, report_scores(table, options=replace(FEW, threshold_from="test")))
    text = page.read_text(encoding="utf-8")
    assert "Thresholds were chosen on the studies that are scored" in text
    assert "read from the reports by rules" in text
    assert "synthetic, made by a program" not in text
    assert "Retrieval" not in text


def test_the_same_report_gives_the_same_page(page: Path) -> None:
    before = page.read_bytes()
    assert write_evaluation_page(page.parent, "test") == page
    assert page.read_bytes() == before


def test_a_split_that_was_not_scored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="ctclip evaluate"):
        write_evaluation_page(tmp_path, "val")


def test_nothing_defined_at_all_still_gives_a_page(tmp_path: Path) -> None:
    table = make_table(30, labels=np.zeros((30, 3), np.int8))
    text = write_run(tmp_path / "run", table, whole_report(table)).read_text(encoding="utf-8")
    assert "undefined" in text
    assert "Undefined: no finding has studies of both classes." in text


def test_a_comparison_is_drawn_with_its_p_values(tmp_path: Path) -> None:
    labels = make_labels(120)
    labels[:, 2] = 1
    worse = make_table(120, labels=labels, signal=0.3)
    better = replace(worse, scores=worse.scores + labels / 5, missing_prompts=("free_air",))
    report = compare_scores(better, worse, options=FEW)
    page = write_comparison_page(tmp_path / "ab.html", report, names=("new", "old"))
    opened = open_in_chromium(page, tmp_path)
    assert opened.console == []
    assert [figure["paths"] > 5 for figure in opened.drawn] == [True] * 3
    text = page.read_text(encoding="utf-8")
    assert "p (Holm)" in text
    assert "p (DeLong, Holm)" in text
    assert "Not scored by both: free air" in text
    assert f"{report['macro']['auroc']['difference']:+.3f}" in text
