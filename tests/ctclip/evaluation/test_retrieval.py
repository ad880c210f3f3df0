"""Recall@K is what a slow search finds, and chance where nothing can be told apart."""

import json

import numpy as np
import pytest

from ctclip.errors import EvaluationError
from ctclip.evaluation.retrieval import hit_chances, match_ranks, retrieval_report


def names(num):
    return [f"s{row}" for row in range(num)]


def pairs(num=60, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(num, 16))
    return images, images + noise * rng.normal(size=(num, 16))


def slow_recall(images, texts, k):
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    return np.mean([row in np.argsort(-(image @ texts.T))[:k] for row, image in enumerate(images)])


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_is_that_of_a_slow_search_both_ways(k):
    images, texts = pairs()
    report = retrieval_report(images, texts, names(60), names(60), num_bootstraps=50)
    assert report["image_to_text"]["recall"][str(k)]["value"] == pytest.approx(slow_recall(images, texts, k))
    assert report["text_to_image"]["recall"][str(k)]["value"] == pytest.approx(slow_recall(texts, images, k))
    assert report["random"][str(k)] == k / 60
    assert json.dumps(report, allow_nan=False)


def test_equal_pairs_are_all_found_and_ks_above_the_pool_are_left_out():
    images, _ = pairs(40)
    report = retrieval_report(images, images, names(40), names(40), num_bootstraps=20)
    assert report["ks"] == [1, 5, 10]
    assert report["image_to_text"]["recall"]["1"]["value"] == 1
    assert report["image_to_text"]["median_rank"] == 1


def test_embeddings_that_are_all_alike_score_chance():
    same = np.ones((50, 4))
    report = retrieval_report(same, same, names(50), names(50), num_bootstraps=20)
    for way in ("image_to_text", "text_to_image"):
        assert report[way]["recall"]["5"]["value"] == pytest.approx(0.1)


def test_ties_count_as_a_random_order_would():
    nearer, equal = np.array([0, 0, 3, 1]), np.array([0, 3, 0, 1])
    np.testing.assert_allclose(hit_chances(nearer, equal, 2), [1, 0.5, 0, 0.5])


def test_ranks_do_not_depend_on_the_size_of_the_blocks():
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in pairs(1100))
    nearer, _ = match_ranks(images, texts)
    own = np.sum(images * texts, axis=1)
    np.testing.assert_array_equal(nearer, ((images @ texts.T) > own[:, None] + 1e-12).sum(1))


def test_intervals_widen_when_patients_repeat():
    images, texts = pairs(80, noise=1.5)
    images, texts = np.repeat(images, 2, axis=0), np.repeat(texts, 2, axis=0)
    patients = np.repeat(names(80), 2).tolist()
    together = retrieval_report(images, texts, names(160), patients, num_bootstraps=400)
    apart = retrieval_report(images, texts, names(160), names(160), num_bootstraps=400)
    width = [
        r["image_to_text"]["recall"]["10"]["high"] - r["image_to_text"]["recall"]["10"]["low"]
        for r in (together, apart)
    ]
    assert width[0] > 1.2 * width[1]


def test_embeddings_that_do_not_pair_are_refused():
    with pytest.raises(EvaluationError, match=r"\(3, 4\) and \(2, 4\)"):
        retrieval_report(np.ones((3, 4)), np.ones((2, 4)), names(3), names(3))
    bad = np.ones((3, 4))
    bad[1] = np.nan
    with pytest.raises(EvaluationError, match="s1"):
        retrieval_report(np.ones((3, 4)), bad, names(3), names(3))
