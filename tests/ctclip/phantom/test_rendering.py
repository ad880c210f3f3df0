"""Voxels, masks and truth of one drawn study agree, on any grid."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctclip.phantom import organs
from ctclip.phantom.catalogue import CATALOGUE, FINDINGS, bit_of
from ctclip.phantom.grid import Grid, NativeGrid, grid_affine, grid_of
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.planting import told_study
from ctclip.phantom.rendering import Rendered, organ_box, render, visible_truth
from ctclip.phantom.report import Style, write_report
from ctclip.phantom.study import PhantomStudy, draw_lesion, draw_patient, draw_study
from ctload.geometry import Box

KNOBS = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.3), normal_share=0.0)
CLEAN = Knobs(prevalence=dict.fromkeys(FINDINGS, 0.0), phases=(0.0, 0.0, 1.0), incidental_share=0.0, variation=0.5)
COARSE = Grid.covering((42, 39, 42))
FINE = Grid.covering((105, 98, 105))


def study_of(patient: int, knobs: Knobs = KNOBS) -> PhantomStudy:
    return draw_study(0, draw_patient(0, patient, knobs), 0, knobs)


def man_with(finding: str, *, severity: int) -> PhantomStudy:
    """A man with one finding of a severity, in the venous phase."""
    knobs = replace(CLEAN, severity=tuple(float(k == severity) for k in range(3)))
    patient = next(p for p in (draw_patient(0, k, knobs) for k in range(50)) if p.is_male)
    return replace(draw_study(0, patient, 0, knobs), lesions={finding: draw_lesion(0, patient, 0, finding, knobs)})


def mask_of(rendered: Rendered, finding: str) -> np.ndarray:
    return (rendered.findings >> np.uint32(bit_of(finding)) & np.uint32(1)).astype(bool)


@settings(max_examples=25, deadline=None)
@given(patient=st.integers(0, 10**6), top=st.integers(4, 42))
def test_masks_truth_and_report_never_contradict_each_other(patient, top):
    """On volumes that hold all or only a part of the body."""
    study = study_of(patient)
    rendered = render(study, COARSE, box=Box((42 - top, 0, 0), (42, 39, 42)), is_noisy=False)
    truth = visible_truth(study, rendered)
    report = write_report(*told_study(study, truth, KNOBS), Style(0.1, 0.4, 1.0), rng=np.random.default_rng(0))
    for finding in FINDINGS:
        has_mask = bool(mask_of(rendered, finding).any())
        assert has_mask == (truth[finding] == 1)
        assert has_mask <= (finding in study.lesions)
        assert not (truth[finding] == 0 and finding in study.lesions)
        assert report.says[finding] in (-1, truth[finding])


def test_every_finding_that_is_drawn_is_seen_in_a_volume_of_the_whole_abdomen():
    for patient in range(12):
        study = study_of(patient)
        truth = visible_truth(study, render(study, FINE, is_noisy=False))
        assert truth == {finding: int(finding in study.lesions) for finding in FINDINGS}


def test_a_volume_without_the_pelvis_does_not_know_the_prostate():
    grid = Grid((40, 64, 64), (7.0, 6.0, 6.0))
    study = man_with("prostatomegaly", severity=2)
    assert visible_truth(study, render(study, grid, is_noisy=False))["prostatomegaly"] == -1
    clean = replace(study, lesions={})
    assert visible_truth(clean, render(clean, grid, is_noisy=False))["prostatomegaly"] == -1


def test_rendering_repeats_to_the_bit_and_changes_with_the_study():
    first, again, other = (render(study_of(patient), COARSE) for patient in (5, 5, 6))
    assert np.array_equal(first.voxels, again.voxels)
    assert np.array_equal(first.findings, again.findings)
    assert not np.array_equal(first.voxels, other.voxels)
    assert first.voxels.dtype == np.int16


def test_a_box_of_a_grid_shows_the_same_anatomy_as_the_whole():
    study = study_of(7)
    whole = render(study, COARSE, is_noisy=False)
    box = Box((10, 5, 8), (30, 25, 40))
    part = render(study, COARSE, box=box, is_noisy=False)
    inside = tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))
    # Runs along a line start elsewhere, so a voxel on a surface may differ by a rounding of its coverage.
    assert np.abs(whole.voxels[inside].astype(int) - part.voxels).max() <= 1
    assert (whole.organs[inside] == part.organs).mean() > 0.9999
    assert np.allclose(part.affine[:3, 3], (whole.affine @ (10, 5, 8, 1))[:3])


@pytest.mark.parametrize(
    ("finding", "organ", "axis"),
    [("splenomegaly", organs.SPLEEN, 0), ("hepatomegaly", organs.LIVER, 0), ("cardiomegaly", organs.HEART, 2)],
)
def test_an_enlarged_organ_measures_what_the_lesion_says(finding, organ, axis):
    study = man_with(finding, severity=1)
    mask = render(study, FINE, is_noisy=False).organs == organ
    length = np.count_nonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) * 4.0
    assert length == pytest.approx(study.lesions[finding].size_mm, rel=0.12)


def test_an_aneurysm_is_as_wide_as_the_lesion_says():
    study = man_with("abdominal_aortic_aneurysm", severity=1)
    grid = Grid((70, 260, 280), (6.0, 1.5, 1.5))
    box = organ_box(render(study, COARSE, is_noisy=False), [organs.AORTA], grid, margin_mm=30)
    mask = render(study, grid, box=box, is_noisy=False).organs == organs.AORTA
    widths = [np.count_nonzero(plane.any(axis=0)) * 1.5 for plane in mask[:25]]
    assert max(widths) == pytest.approx(study.lesions["abdominal_aortic_aneurysm"].size_mm, abs=4)


def test_hu_are_those_of_the_literature():
    rendered = render(replace(man_with("osteopenia", severity=2), lesions={}), FINE, is_noisy=False)

    def median(organ: int) -> float:
        return float(np.median(rendered.voxels[rendered.organs == organ]))

    assert median(organs.LIVER) == pytest.approx(110, abs=10)
    assert median(organs.SPLEEN) == pytest.approx(122, abs=10)
    assert median(organs.SUBCUTANEOUS) == pytest.approx(-105, abs=8)
    assert median(organs.LUNG) == pytest.approx(-820, abs=25)
    assert median(organs.GALLBLADDER) == pytest.approx(8, abs=20)
    assert rendered.voxels[0, -1, 0] == -1000


def test_sides_are_the_patients():
    """x rises to the right: a right pleural effusion lies at larger x than the spine."""
    for side in ("right", "left"):
        study = man_with("pleural_effusion", severity=2)
        lesion = replace(study.lesions["pleural_effusion"], side=side)
        rendered = render(replace(study, lesions={"pleural_effusion": lesion}), COARSE, is_noisy=False)
        x = np.argwhere(mask_of(rendered, "pleural_effusion"))[:, 2].mean()
        spine = np.argwhere(rendered.organs == organs.SPINE)[:, 2].mean()
        assert (x > spine) == (side == "right")


def test_severity_grows_the_finding():
    for finding in ("ascites", "pleural_effusion", "free_air", "renal_cyst", "metastatic_disease", "bowel_obstruction"):
        volumes = [
            mask_of(render(man_with(finding, severity=k), COARSE, is_noisy=False), finding).sum() for k in (0, 2)
        ]
        assert volumes[1] > 1.5 * volumes[0], finding


def test_noise_follows_its_knob_and_the_kernel():
    grid = Grid((140, 260, 280), (3.0, 1.5, 1.5))
    box = Box((90, 100, 130), (96, 160, 190))

    def noise(factor: float, is_sharp: bool) -> float:
        study = replace(study_of(1, CLEAN), is_sharp=is_sharp)
        noisy, still = (render(replace(study, noise=f), grid, box=box).voxels.astype(float) for f in (factor, 0.0))
        return float((noisy - still).std())

    assert noise(1.0, False) == pytest.approx(12 * np.sqrt(1.92 / 6.75), rel=0.1)
    assert noise(3.0, False) == pytest.approx(3 * noise(1.0, False), rel=0.1)
    assert noise(1.0, True) == pytest.approx(2 * noise(1.0, False), rel=0.1)


def test_native_grids_vary_in_resolution_and_cover_the_abdomen():
    grids = [grid_of(study_of(patient), NativeGrid(64)) for patient in range(20)]
    assert len({grid.spacing_mm for grid in grids}) > 10
    assert all(grid.shape[0] * grid.spacing_mm[0] > 395 and 1 <= grid.spacing_mm[0] <= 5 for grid in grids)
    assert grid_of(study_of(3), NativeGrid(64)) == grid_of(study_of(3), NativeGrid(64))


def test_a_short_scan_loses_the_pelvis_and_a_long_one_is_centred():
    short, long = Grid((20, 8, 8), (10.0, 50.0, 50.0)), Grid((60, 8, 8), (10.0, 50.0, 50.0))
    top = [float((grid_affine(grid) @ (grid.shape[0] - 1, 0, 0, 1))[2]) for grid in (short, long)]
    assert top[0] == 182
    assert top[1] + grid_affine(long)[2, 3] == pytest.approx(182 - 238)


def test_each_finding_paints_inside_the_volume_and_names_its_organs():
    assert all(0 <= organ < len(organs.ORGAN_NAMES) for facts in CATALOGUE.values() for organ in facts.organs)
