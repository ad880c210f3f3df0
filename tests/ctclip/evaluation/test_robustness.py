"""Ten wordings of one question: their scores, their spread, and whose spread is smaller."""

import json

import numpy as np
import pytest

from ctclip.errors import EvaluationError
from ctclip.evaluation.metrics import auroc
from ctclip.evaluation.protocol import EvaluateOptions
from ctclip.evaluation.robustness import TEMPLATES, compare_robustness, macro_by_template, template_prompts
from ctclip.evaluation.zeroshot import score_cohort
from ctclip.findings import KNOWN_FINDINGS
from ctclip.reports.sections import clean_text
from ctclip.texts.finding_anatomy import ANATOMY_OF
from tests.ctclip.score_tables import embed_words, make_cohort_of, make_labels

FEW = EvaluateOptions(num_bootstraps=60)
LABELS = make_labels(120, unknown=0)
COHORT = make_cohort_of(LABELS)


def images(noise=1.0, seed=0):
    words = [
        " ".join(name for name, label in zip(COHORT.findings, row, strict=True) if label == 1) or "x" for row in LABELS
    ]
    return embed_words(words) + noise * np.random.default_rng(seed).normal(size=(120, 32))


def scores_of(vectors, embed_texts=embed_words):
    return macro_by_template(vectors, COHORT.studies, cohort=COHORT, embed_texts=embed_texts, options=FEW)


def test_every_known_finding_fills_every_template():
    for template in range(len(TEMPLATES)):
        prompts = template_prompts(KNOWN_FINDINGS, template=template)
        for finding, entry in prompts.prompts.items():
            (positive,), (negative,) = entry.positive, entry.negative
            assert positive != negative
            assert positive == clean_text(positive)
            assert finding.replace("_", " ").lower() in positive
    assert len(TEMPLATES) >= 8
    assert set(KNOWN_FINDINGS) <= set(ANATOMY_OF)


def test_a_finding_without_anatomy_is_refused_or_given_one():
    with pytest.raises(EvaluationError, match="sarcopenia"):
        template_prompts(["sarcopenia"], template=0)
    prompts = template_prompts(["sarcopenia"], template=4, anatomy_of={"sarcopenia": "muscle"})
    assert prompts.prompts["sarcopenia"].positive == ("the muscle shows : sarcopenia .",)


def test_each_templates_score_is_that_of_its_own_prompts():
    vectors = images()
    scores = scores_of(vectors)
    assert scores.values.shape == (len(TEMPLATES) + 1, 3)
    assert scores.draws.shape == (60, len(TEMPLATES) + 1)
    prompts = template_prompts(COHORT.findings, template=3)
    table = score_cohort(vectors, COHORT.studies, cohort=COHORT, prompts=prompts, embed_texts=embed_words)
    assert scores.values[3, 0] == auroc(LABELS[:, 0], table.scores[:, 0])


def test_the_report_sums_up_the_templates_without_the_ensemble():
    report = scores_of(images()).report()
    macro = list(report["macro_auroc"].values())
    assert report["mean"] == pytest.approx(np.mean(macro))
    assert report["sd"]["value"] == pytest.approx(np.std(macro, ddof=1))
    assert report["range"] == pytest.approx(max(macro) - min(macro))
    assert (report["min"], report["max"]) == (min(macro), max(macro))
    assert report["ensemble"] not in macro
    assert json.dumps(report, allow_nan=False)


def test_an_encoder_that_ignores_the_wording_has_no_spread():
    def deaf(texts):  # hears the finding's name and whether it is denied, nothing else
        heard = []
        for text in texts:
            name = next(name for name in COHORT.findings if name in text)
            denied = any(word in text.split() for word in ("no", "not", "without"))
            heard.append(embed_words([f"{name} denied" if denied else name])[0])
        return np.stack(heard)

    texts_all_name_the_finding = [k for k in range(len(TEMPLATES)) if "{d}" in TEMPLATES[k][2]]
    assert len(texts_all_name_the_finding) == len(TEMPLATES) - 1

    def hears(texts):
        return np.stack(
            [deaf([text])[0] if any(n in text for n in COHORT.findings) else embed_words(["x"])[0] for text in texts]
        )

    scores = scores_of(images(), embed_texts=hears)
    assert np.ptp(scores.macro[texts_all_name_the_finding]) == pytest.approx(0, abs=1e-12)


def test_the_spreads_of_two_models_are_compared_draw_by_draw():
    vectors = images()
    a = scores_of(vectors)
    same = compare_robustness(a, a)
    assert (same["value"], same["p"]) == (0, 1)
    b = scores_of(images(noise=4.0, seed=3))
    forward, backward = compare_robustness(a, b), compare_robustness(b, a)
    assert forward["value"] == pytest.approx(-backward["value"])
    assert forward["low"] <= forward["value"] <= forward["high"]
    other = type(a)(("ascites",), a.values, a.draws)
    with pytest.raises(EvaluationError, match="same findings"):
        compare_robustness(a, other)


def test_a_cohort_without_two_classes_gives_none():
    cohort = make_cohort_of(np.zeros((10, 3), np.int8))
    scores = macro_by_template(np.ones((10, 32)), cohort.studies, cohort=cohort, embed_texts=embed_words, options=FEW)
    report = scores.report()
    assert report["mean"] is None
    assert report["num_findings"] == 0
