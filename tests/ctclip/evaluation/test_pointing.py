"""The pointing game looks where the similarity is highest, in millimetres where it may miss by some."""

import numpy as np
import pytest

from ctclip.errors import EvaluationError
from ctclip.evaluation.pointing import EMPTY, NOT_ASKED, highest_voxel, is_hit, pointing_report, similarity_map

SPACING = (3.0, 1.5, 1.5)


def peak(shape, at):
    heat = np.zeros(shape)
    heat[at] = 1
    return heat


def test_similarity_is_the_cosine_of_every_token():
    rng = np.random.default_rng(0)
    tokens, prompt = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=8)
    tokens[0, 0, 0] = 0
    found = similarity_map(tokens, prompt)
    assert found.shape == (2, 3, 4)
    assert found[0, 0, 0] == 0
    expected = tokens[1, 2, 3] @ prompt / np.linalg.norm(tokens[1, 2, 3]) / np.linalg.norm(prompt)
    assert found[1, 2, 3] == pytest.approx(expected)


def test_the_same_grid_points_to_its_own_highest_voxel():
    assert highest_voxel(peak((4, 5, 6), (2, 3, 1)), (4, 5, 6)) == (2, 3, 1)


def test_a_coarse_map_points_into_the_block_of_its_token():
    voxel = highest_voxel(peak((4, 4, 4), (1, 2, 3)), (16, 32, 32))
    assert 4 <= voxel[0] < 8
    assert 16 <= voxel[1] < 24
    assert 24 <= voxel[2] < 32


def test_equal_places_are_settled_by_the_first():
    assert highest_voxel(np.ones((3, 3, 3)), (6, 6, 6)) == (0, 0, 0)


def test_a_hit_is_inside_the_mask_or_within_the_tolerance():
    mask = np.zeros((8, 8, 8), bool)
    mask[4, 4, 6] = True
    heat = peak((8, 8, 8), (4, 4, 4))
    assert is_hit(peak((8, 8, 8), (4, 4, 6)), mask, spacing_mm=SPACING) is True
    assert is_hit(heat, mask, spacing_mm=SPACING) is False
    assert is_hit(heat, mask, spacing_mm=SPACING, tolerance_mm=2.9) is False
    assert is_hit(heat, mask, spacing_mm=SPACING, tolerance_mm=3.0) is True  # two voxels of 1.5 mm
    assert is_hit(peak((8, 8, 8), (2, 4, 6)), mask, spacing_mm=SPACING, tolerance_mm=5.9) is False  # two of 3 mm


def test_an_empty_mask_is_no_miss():
    assert is_hit(np.ones((2, 2, 2)), np.zeros((4, 4, 4), bool), spacing_mm=SPACING) is None


def test_maps_that_cannot_point_are_refused():
    with pytest.raises(EvaluationError, match="not finite"):
        is_hit(np.full((2, 2, 2), np.nan), np.ones((4, 4, 4), bool), spacing_mm=SPACING)
    with pytest.raises(EvaluationError, match="three axes"):
        is_hit(np.ones((2, 2)), np.ones((4, 4, 4), bool), spacing_mm=SPACING)


def test_the_report_counts_hits_misses_and_empty_masks_beside_chance():
    hits = np.array(
        [[1, EMPTY, 0], [0, NOT_ASKED, NOT_ASKED], [EMPTY, NOT_ASKED, NOT_ASKED], [1, NOT_ASKED, 0]], np.int8
    )
    chances = np.where(hits >= 0, [[0.3, 0.9, 0.1]], 7.0)
    report = pointing_report(
        hits, chances, findings=["ascites", "fracture", "cyst"], patients=["p", "q", "r", "s"], num_bootstraps=200
    )
    ascites, fracture, cyst = report["findings"].values()
    assert ascites["accuracy"]["value"] == pytest.approx(2 / 3)
    assert ascites["accuracy"]["low"] < 2 / 3 < ascites["accuracy"]["high"]
    assert (ascites["num"], ascites["num_empty"], ascites["chance"]) == (3, 1, pytest.approx(0.3))
    assert (fracture["accuracy"]["value"], fracture["chance"], fracture["num_empty"]) == (None, None, 1)
    assert cyst["accuracy"]["value"] == 0
    assert report["accuracy"]["value"] == pytest.approx(1 / 3)
    assert report["chance"] == pytest.approx(0.2)
    assert (report["num_findings"], report["num_studies"]) == (2, 3)


def test_a_game_without_studies_has_no_score():
    report = pointing_report(np.zeros((0, 1), np.int8), np.zeros((0, 1)), findings=["ascites"], patients=[])
    assert report["accuracy"]["value"] is None
    assert report["findings"]["ascites"]["num"] == 0
