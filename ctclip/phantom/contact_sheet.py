"""A picture of all thirty findings, each beside the same synthetic patient without it.

`python -m ctclip.phantom.contact_sheet OUT.png`. matplotlib and its Pillow are imported here alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ctclip.phantom.catalogue import FINDINGS, bit_of
from ctclip.phantom.grid import Grid, grid_affine
from ctclip.phantom.knobs import Knobs
from ctclip.phantom.rendering import Rendered, render
from ctclip.phantom.study import PhantomStudy, draw_lesion, draw_patient, draw_study
from ctload.geometry import Box

SPACING_MM = 1.5
GRID = Grid((296, 264, 288), (SPACING_MM, SPACING_MM, SPACING_MM))
COARSE = Grid((148, 132, 144), (2 * SPACING_MM, 2 * SPACING_MM, 2 * SPACING_MM))  # where a finding is looked for
SOFT, LUNG, BONE = (-150, 250), (-1150, 150), (-100, 700)
GRAY_LEVELS = 32
COLUMNS = 5


@dataclass(frozen=True)
class View:
    """How a finding is shown.

    Args:
        axis: 0 axial, 1 coronal, 2 sagittal.
        window: (low, high) HU.
        half_mm: Half of the picture's width.
    """

    axis: int = 0
    window: tuple[int, int] = SOFT
    half_mm: float = 90.0


WHOLE = View(half_mm=190.0)
VIEWS: dict[str, View] = {
    "aortic_valve_calcification": View(window=BONE, half_mm=100),
    "coronary_calcification": View(window=BONE, half_mm=100),
    "renal_hypodensities": View(half_mm=60),
    "renal_cyst": View(axis=1),
    "osteopenia": View(axis=2, window=BONE, half_mm=100),
    "fracture": View(axis=2, window=BONE, half_mm=100),
    "atelectasis": View(window=LUNG, half_mm=150),
    "pleural_effusion": View(half_mm=160),
    "anasarca": View(window=(-200, 100), half_mm=190),
    "hiatal_hernia": View(half_mm=120),
    "ascites": WHOLE,
    "free_air": View(window=LUNG, half_mm=150),
    "cardiomegaly": View(half_mm=170),
    "splenomegaly": View(axis=1, half_mm=130),
    "hepatomegaly": View(axis=1, half_mm=170),
    "hepatic_steatosis": View(half_mm=170),
    "bowel_obstruction": View(half_mm=150),
    "abdominal_aortic_aneurysm": View(axis=1, half_mm=90),
    "atherosclerosis": View(axis=2, window=BONE, half_mm=90),
    "hydronephrosis": View(axis=1, half_mm=110),
    "prostatomegaly": View(half_mm=110),
    "appendicitis": View(half_mm=70),
    "thrombosis": View(half_mm=70),
}


def example_pair(finding: str, seed: int) -> tuple[PhantomStudy, PhantomStudy]:
    """A man with one finding (venous, moderate or severe), and the same man without it."""
    knobs = Knobs(
        prevalence=dict.fromkeys(FINDINGS, 0.0), severity=(0, 0.5, 0.5), phases=(0, 0, 1), sharp_share=0.0,
        incidental_share=0.0, variation=0.5,
    )  # fmt: skip
    index = next(k for k in range(1000) if draw_patient(seed, k, knobs).is_male)
    patient = draw_patient(seed, index, knobs)
    clean = draw_study(seed, patient, 0, knobs)
    lesion = draw_lesion(seed, patient, 0, finding, knobs)
    return replace(clean, lesions={finding: lesion}), clean


def picture(finding: str, *, seed: int = 3) -> tuple[np.ndarray, np.ndarray, str]:
    """Two slices through the middle of a finding, with and without it.

    Returns:
        Two (h, w) float arrays in [0, 1] of the same place, and the finding's severity and size in words.
    """
    study, clean = example_pair(finding, seed)
    view = VIEWS.get(finding, View())
    center = _center(render(study, COARSE, is_noisy=False), finding)
    half = round(view.half_mm / SPACING_MM)
    start = [min(max(0, c - half), n - 2 * half) for c, n in zip(center, GRID.shape, strict=True)]
    stop = [first + 2 * half for first in start]
    start[view.axis], stop[view.axis] = center[view.axis], center[view.axis] + 1
    box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    tiles = [_slice(render(s, GRID, box=box).voxels, view) for s in (study, clean)]
    lesion = study.lesions[finding]
    size = f", {lesion.size_mm:.0f} mm" if lesion.size_mm else ""
    return tiles[0], tiles[1], f"{lesion.word}{size}"


def _center(rendered: Rendered, finding: str) -> tuple[int, int, int]:
    """A voxel of GRID inside the finding, in the axial slice where most of it is."""
    mask = rendered.findings >> np.uint32(bit_of(finding)) & np.uint32(1)
    counts = mask.sum(axis=(1, 2))
    axial = int(counts.argmax())
    where = np.argwhere(mask[axial])
    middle = where.mean(axis=0)
    nearest = where[np.argmin(((where - middle) ** 2).sum(axis=1))]
    index = np.array((axial, *nearest, 1.0))
    z, y, x = np.rint(np.linalg.inv(grid_affine(GRID)) @ grid_affine(COARSE) @ index)[:3].astype(int)
    return int(z), int(y), int(x)


def _slice(voxels: np.ndarray, view: View) -> np.ndarray:
    """The one slice of the box as a picture: superior or anterior up, the patient's right at the left."""
    plane = np.take(voxels, 0, axis=view.axis).astype(np.float32)
    plane = plane[::-1, ::-1]  # rows run down; columns of axial and coronal run to the patient's left
    low, high = view.window
    return np.clip((plane - low) / (high - low), 0, 1)


def write_contact_sheet(out: Path) -> None:
    """Draw all findings and write one PNG of few gray levels."""
    rows = -(-len(FINDINGS) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * 2.5, rows * 1.62 + 0.4), dpi=110)
    figure.suptitle(
        "Synthetic phantoms, not patients: each finding (left) and the same phantom without it (right)", fontsize=11
    )
    grid = figure.add_gridspec(
        rows, COLUMNS * 2, left=0.004, right=0.996, bottom=0.004, top=0.94, wspace=0.02, hspace=0.2
    )
    for k, finding in enumerate(FINDINGS):
        row, column = divmod(k, COLUMNS)
        present, absent, words = picture(finding)
        for half, tile in enumerate((present, absent)):
            axes = figure.add_subplot(grid[row, 2 * column + half])
            axes.imshow(tile, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            axes.set_axis_off()
            if half == 0:
                axes.set_title(f"{finding.replace('_', ' ')}: {words}", fontsize=6.2, loc="left", pad=2)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    Image.open(buffer).convert("L").quantize(GRAY_LEVELS).save(out, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="PNG file to write")
    write_contact_sheet(parser.parse_args(argv).out)


if __name__ == "__main__":
    main()
