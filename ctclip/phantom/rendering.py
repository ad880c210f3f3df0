"""From a study as drawn to voxels: the anatomy painted, then table, kernel and noise, on any grid.

Enters: a `PhantomStudy` and a `Grid`. Leaves: int16 HU, organ labels and finding bits with their affine. All is a pure
function of the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ctclip.phantom import abdomen, body, bowel, organs, raster, thorax, urinary, vessels
from ctclip.phantom.catalogue import CATALOGUE, bit_of
from ctclip.phantom.grid import Grid, grid_affine
from ctclip.phantom.scanner import add_scanner, paint_table, pose
from ctclip.phantom.shape import Scene
from ctclip.phantom.study import PhantomStudy
from ctload.geometry import Box, box_affine

WHOLE_ORGANS = {
    "cardiomegaly": organs.HEART, "splenomegaly": organs.SPLEEN, "hepatomegaly": organs.LIVER,
    "hepatic_steatosis": organs.LIVER,
}  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """A study as voxels; all arrays are (D, H, W) in RAS+ order of (z, y, x).

    Args:
        voxels: int16 HU.
        organs: uint8, labels of organs.ORGAN_NAMES.
        findings: uint32, bit k is the k-th finding of the catalogue.
        affine: (4, 4) float64, index (z, y, x) -> RAS+ mm.
    """

    voxels: np.ndarray
    organs: np.ndarray
    findings: np.ndarray
    affine: np.ndarray


def make_scene(study: PhantomStudy) -> Scene:
    """The anatomy of a study with its findings, in painting order."""
    scene = Scene()
    frame = body.make_body(study)
    body.paint_frame(scene, frame)
    thorax.paint_lungs(scene, frame)
    body.paint_back(scene, frame)
    abdomen.paint_ascites(scene, frame)
    thorax.paint_heart(scene, frame)
    thorax.paint_esophagus(scene, frame)
    body.paint_spine(scene, frame)
    bowel.paint_bowel(scene, frame)
    vessels.paint_arteries(scene, frame)
    abdomen.paint_stomach(scene, frame)
    abdomen.paint_spleen(scene, frame)
    abdomen.paint_pancreas(scene, frame)
    abdomen.paint_liver(scene, frame)
    vessels.paint_veins(scene, frame)
    abdomen.paint_gallbladder(scene, frame)
    urinary.paint_kidneys(scene, frame)
    abdomen.paint_adrenals(scene, frame)
    urinary.paint_pelvis(scene, frame)
    vessels.paint_nodes(scene, frame)
    bowel.paint_free_air(scene, frame)
    return scene


def render(study: PhantomStudy, grid: Grid, *, box: Box | None = None, is_noisy: bool = True) -> Rendered:
    """Render a study, or a part of it.

    Args:
        study: What to render.
        grid: The voxels of the whole volume.
        box: The part of the grid to render; the anatomy is the same as in the whole, the noise is drawn anew.
        is_noisy: False leaves out kernel and noise.
    """
    box = box or Box.whole(grid.shape)
    affine = box_affine(grid_affine(grid), box.start)
    to_patient = pose(study) @ affine  # index (z, y, x) -> patient (x, y, z)
    from_patient = np.linalg.inv(to_patient)
    hu = np.full(box.shape, -1000, np.float32)
    labels = np.zeros(box.shape, np.uint8)
    bits = np.zeros(box.shape, np.uint32)
    spacing = np.array(grid.spacing_mm, np.float64)
    paint_table(study, hu, labels, bits, to_patient, spacing)
    rows, over = make_scene(study).packed()
    raster.paint(rows, over, raster.noise_table(), to_patient[:3], from_patient[:3], spacing, hu, labels, bits)
    _mark_whole_organs(study, labels, bits)
    if is_noisy:
        hu = add_scanner(study, hu, grid.spacing_mm)
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Rendered(voxels, labels, bits, affine)


def organ_box(rendered: Rendered, wanted: Iterable[int], grid: Grid, *, margin_mm: float) -> Box:
    """The part of `grid` that holds some organs of a volume rendered before, coarsely as a rule, and a margin.

    Raises:
        ValueError: None of the organs is in the volume.
    """
    found = np.argwhere(np.isin(rendered.organs, list(wanted)))
    if not len(found):
        raise ValueError(f"the volume has none of the organs {list(wanted)}")
    to_fine = np.linalg.inv(grid_affine(grid)) @ rendered.affine
    low, high = (to_fine @ np.append(corner, 1.0) for corner in (found.min(axis=0) - 0.5, found.max(axis=0) + 0.5))
    margin = margin_mm / np.array(grid.spacing_mm)
    start = np.clip(np.floor(low[:3] - margin), 0, np.array(grid.shape) - 1).astype(int)
    stop = np.clip(np.ceil(high[:3] + margin) + 1, start + 1, grid.shape).astype(int)
    return Box(tuple(start.tolist()), tuple(stop.tolist()))


def _mark_whole_organs(study: PhantomStudy, labels: np.ndarray, bits: np.ndarray) -> None:
    for finding, organ in WHOLE_ORGANS.items():
        if finding in study.lesions:
            bits[labels == organ] |= np.uint32(1 << bit_of(finding))


def visible_truth(study: PhantomStudy, rendered: Rendered) -> dict[str, int]:
    """Truth by finding for this volume: 1 present, 0 absent, -1 where its organ lies outside the volume.

    A present finding is 1 where its mask has a voxel; an absent one is 0 where its organ has one, or where no such
    organ exists in this patient.
    """
    labels_inside = set(np.flatnonzero(np.bincount(rendered.organs.ravel(), minlength=64)).tolist())
    bits_inside = int(np.bitwise_or.reduce(rendered.findings, axis=None))
    truth = {}
    for finding, facts in CATALOGUE.items():
        if finding in study.lesions:
            truth[finding] = 1 if bits_inside >> bit_of(finding) & 1 else -1
            continue
        is_imaged = any(organ in labels_inside for organ in facts.organs)
        if finding == "prostatomegaly" and not study.patient.is_male:
            is_imaged = organs.UTERUS in labels_inside
        if finding == "gallstones" and "surgically_absent_gallbladder" in study.lesions:
            is_imaged = organs.LIVER in labels_inside
        truth[finding] = 0 if is_imaged else -1
    return truth
