"""What embeddings say beyond scores: each part by itself, and the reason where one cannot be had."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from ctclip.errors import EvaluationError
from ctclip.evaluation.diagnostics import MAX_PROBES, PARTS, diagnose, probe_sentences
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.retrieval import retrieval_report
from ctclip.evaluation.robustness import macro_by_template
from ctclip.texts.prompts import default_prompts
from tests.ctclip.score_tables import embed_words, make_cohort_of, make_labels

FEW = EvaluateOptions(num_bootstraps=40)
LABELS = make_labels(60, unknown=0)


def cohort_with(reports):
    cohort = make_cohort_of(LABELS)
    column = cohort.table.column_names.index("report")
    return replace(cohort, table=cohort.table.set_column(column, "report", pa.array(reports)))


COHORT = cohort_with([f"Liver: Lesion number {row} of {row} mm. Spleen: Cyst {row}." for row in range(60)])
IMAGES = embed_words(COHORT.reports) + np.random.default_rng(0).normal(size=(60, 32))


def parts_of(cohort=COHORT, images=IMAGES, parts=PARTS, embed_texts=embed_words):
    prompts = default_prompts(("ascites", "fracture", "gallstones"))
    return diagnose(images, cohort, prompts=prompts, embed_texts=embed_texts, options=FEW, parts=parts)


def test_the_parts_are_those_of_their_own_modules():
    report = parts_of()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["left_out"] == {}
    texts = embed_words(COHORT.reports)
    alone = retrieval_report(IMAGES, texts, COHORT.studies, COHORT.patients, num_bootstraps=40)
    assert report["retrieval"] == alone
    scores = macro_by_template(IMAGES, COHORT.studies, cohort=COHORT, embed_texts=embed_words, options=FEW)
    assert report["robustness"] == scores.report()
    assert report["collapse"]["images"]["num_embeddings"] == 60
    assert report["collapse"]["prompts"]["num_groups"] == 30
    assert report["collapse"]["sentences"]["num_groups"] == 2


def test_only_the_parts_asked_for_are_made():
    assert set(parts_of(parts=("collapse",))) == {"left_out", "collapse"}
    assert parts_of(parts=()) == {"left_out": {}}
    with pytest.raises(EvaluationError, match="no part is called 'collaps'"):
        parts_of(parts=("collaps",))


def test_a_release_without_reports_says_why_there_is_no_retrieval():
    report = parts_of(cohort_with([""] * 60))
    assert report["left_out"] == {"retrieval": "the cohort has no reports"}
    assert "retrieval" not in report
    assert report["collapse"]["sentences"] is None
    assert report["robustness"]["num_findings"] == 3


def test_findings_that_no_template_can_name_are_left_out_by_name():
    table = COHORT.table.rename_columns(
        [name.replace("gallstones", "sarcopenia") for name in COHORT.table.column_names]
    )
    cohort = replace(COHORT, table=table, findings=("ascites", "fracture", "sarcopenia"))
    report = parts_of(cohort, parts=("robustness",))
    assert report["robustness"]["num_findings"] == 2
    assert "sarcopenia" in report["left_out"]["robustness"]
    nothing = parts_of(replace(cohort, findings=("sarcopenia",)), parts=("robustness",))
    assert set(nothing) == {"left_out"}


def test_a_text_tower_that_says_one_thing_for_all_is_collapsed():
    report = parts_of(parts=("collapse",), embed_texts=lambda texts: np.ones((len(texts), 32)))
    assert report["collapse"]["sentences"]["is_collapsed"]
    assert report["collapse"]["prompts"]["is_collapsed"]
    assert not report["collapse"]["images"]["is_collapsed"]


def test_probes_are_distinct_sentences_of_one_anatomy_and_no_more_than_the_limit():
    reports = [f"Liver: Cyst of {row} mm." for row in range(MAX_PROBES + 20)] * 2
    probes = probe_sentences([*reports, "Spleen: Normal. Liver and spleen are normal."])
    assert len(probes) == len(set(probes))
    counts = {anatomy: sum(own == anatomy for _, own in probes) for _, anatomy in probes}
    assert counts == {"liver": MAX_PROBES, "spleen": 1}


def test_embeddings_that_are_not_finite_are_refused():
    bad = IMAGES.copy()
    bad[3] = np.nan
    with pytest.raises(EvaluationError, match="1 of 60 image embeddings are NaN"):
        parts_of(images=bad)
