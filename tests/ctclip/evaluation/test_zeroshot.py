"""Scores are what the prompts say, in the cohort's order, and no bad embedding gets through."""

import json

import numpy as np
import pytest

from ctclip.errors import EvaluationError, PromptError
from ctclip.evaluation.zeroshot import load_scores, probabilities, save_scores, score_cohort
from ctclip.texts.prompts import default_prompts, parse_prompts
from tests.ctclip.score_tables import FINDINGS, embed_words, make_cohort_of, make_labels, make_table

PROMPTS = parse_prompts(
    json.dumps(
        {
            "prompts": {
                "ascites": {"positive": ["ascites", "much fluid"], "negative": ["no ascites"]},
                "fracture": {"positive": ["fracture"], "negative": ["no fracture", "bones : normal"]},
            },
            "normal": {"positive": ["normal"], "negative": ["ill"]},
        }
    ),
    name="mine",
)


def score(labels, images, studies=None, **options):
    cohort = make_cohort_of(labels)
    studies = cohort.studies if studies is None else studies
    return score_cohort(images, studies, cohort=cohort, prompts=PROMPTS, embed_texts=embed_words, **options)


def unit(vector):
    return vector / np.linalg.norm(vector)


def by_hand(image, positive, negative, aggregate):
    sides = []
    for texts in (positive, negative):
        vectors = [unit(vector) for vector in embed_words(texts)]
        cosines = [unit(image) @ vector for vector in vectors]
        sides.append(np.mean(cosines) if aggregate == "similarities" else unit(image) @ unit(np.mean(vectors, axis=0)))
    return sides[0] - sides[1]


@pytest.mark.parametrize("aggregate", ["similarities", "embeddings"])
def test_a_score_is_the_mean_over_prompts_of_similarities_or_of_embeddings(aggregate):
    images = np.random.default_rng(0).normal(size=(6, 32)) * 9
    table = score(make_labels(6), images, aggregate=aggregate)
    assert table.findings == ("ascites", "fracture")
    assert table.missing_prompts == ("gallstones",)
    for row, image in enumerate(images):
        expected = by_hand(image, ["ascites", "much fluid"], ["no ascites"], aggregate)
        assert table.scores[row, 0] == pytest.approx(expected)
        assert table.normal_scores[row] == pytest.approx(by_hand(image, ["normal"], ["ill"], aggregate))
    assert table.stamp["aggregate"] == aggregate
    assert table.stamp["label_source"] == "truth"


def test_embeddings_in_another_order_give_the_same_table():
    labels, images = make_labels(8), np.random.default_rng(1).normal(size=(8, 32)).astype(np.float32)
    table = score(labels, images)
    order = np.random.default_rng(2).permutation(8)
    shuffled = score(labels, images[order], studies=[f"s{row}" for row in order])
    np.testing.assert_array_equal(table.scores, shuffled.scores)
    assert table.studies == shuffled.studies
    np.testing.assert_array_equal(table.labels, labels[:, :2])


def test_an_image_of_a_prompts_own_direction_scores_high():
    images = np.concatenate([embed_words(["ascites much fluid"]), embed_words(["no ascites"])])
    table = score(make_labels(2), images)
    assert table.scores[0, 0] > 0 > table.scores[1, 0]


def test_studies_are_normal_when_every_finding_is_absent():
    labels = np.array([[0, 0, 0], [0, 1, -1], [0, -1, 0]], np.int8)
    table = score(labels, np.ones((3, 32)))
    assert table.is_normal.tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, ids: (x, ["t0", *ids[1:]]), r"1 of 4 studies are not embedded \['s0'\], 1 embedded ones.*\['t0'\]"),
        (lambda x, ids: (x[:3], ids[:3]), "1 of 4 studies are not embedded"),
        (lambda x, ids: (x, [*ids[:3], "s0"]), "1 of 4 embedded study ids stand twice"),
        (lambda x, ids: (x[:3], ids), "3 image embeddings for 4"),
        (lambda x, ids: (x * [[1], [np.nan], [1], [np.inf]], ids), "study s1: 2 of 4 image embeddings are NaN or"),
        (lambda x, ids: (x * [[1], [1], [0], [1]], ids), "study s2: 1 of 4 image embeddings are of length 0"),
        (lambda x, ids: (x[:, :5], ids), "image embeddings have 5 values and text embeddings 32"),
        (lambda x, ids: (x[..., None], ids), "shape"),
    ],
)  # fmt: skip
def test_embeddings_that_do_not_fit_are_refused(change, message):
    images, studies = change(np.ones((4, 32)), ["s0", "s1", "s2", "s3"])
    with pytest.raises(EvaluationError, match=message):
        score(make_labels(4), images, studies)


def test_bad_text_embeddings_name_the_text():
    cohort = make_cohort_of(make_labels(2))
    with pytest.raises(EvaluationError, match=r"1 of 8 text embeddings are NaN or infinite, the first is 'ill'"):
        score_cohort(
            np.ones((2, 32)),
            cohort.studies,
            cohort=cohort,
            prompts=PROMPTS,
            embed_texts=lambda texts: embed_words(texts) * [[np.nan if text == "ill" else 1] for text in texts],
        )


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(EvaluationError, match="similarities, embeddings"):
        score(make_labels(2), np.ones((2, 32)), aggregate="vote")
    bare = make_cohort_of(np.zeros((2, 0), np.int8), findings=())
    with pytest.raises(EvaluationError, match="no label column"):
        score_cohort(np.ones((2, 32)), bare.studies, cohort=bare, prompts=PROMPTS, embed_texts=embed_words)
    other = make_cohort_of(make_labels(2), findings=("appendicitis", "anasarca", "free_air"))
    with pytest.raises(PromptError, match="no prompts for any"):
        score_cohort(np.ones((2, 32)), other.studies, cohort=other, prompts=PROMPTS, embed_texts=embed_words)


def test_probabilities_cross_a_half_where_argmax_flips():
    scores = np.array([-2.0, -0.001, 0.0, 0.001, 2.0])
    for scale in (0.5, 14.3, 1e6):
        chances = probabilities(scores, logit_scale=scale)
        assert ((chances > 0.5) == (scores > 0)).all()
        assert np.isfinite(chances).all()
    positive, negative = 0.3, 0.1
    softmax = np.exp(10 * positive) / (np.exp(10 * positive) + np.exp(10 * negative))
    assert probabilities(np.array(positive - negative), logit_scale=10.0) == pytest.approx(softmax)


def test_a_saved_table_comes_back_whole(tmp_path):
    table = make_table(20)
    save_scores(table, tmp_path / "scores.npz")
    loaded = load_scores(tmp_path / "scores.npz")
    for name in ("studies", "patients", "findings", "stamp", "missing_prompts"):
        assert getattr(loaded, name) == getattr(table, name)
    for name in ("labels", "scores", "normal_scores", "is_normal"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(table, name))
    assert len(loaded) == 20


def test_other_files_are_no_score_table(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    (tmp_path / "text.npz").write_text("no")
    for name in ("array.npy", "other.npz", "text.npz", "absent.npz"):
        with pytest.raises(EvaluationError, match="no score table"):
            load_scores(tmp_path / name)


def test_the_own_prompts_score_a_cohort():
    cohort = make_cohort_of(make_labels(5))
    table = score_cohort(
        np.ones((5, 32)), cohort.studies, cohort=cohort, prompts=default_prompts(FINDINGS), embed_texts=embed_words
    )
    assert table.findings == FINDINGS
    assert np.isfinite(table.normal_scores).all()
