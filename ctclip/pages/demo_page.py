"""The demo's page: what it made, how it trained, what it scored. Blocks for ctclip.pages.page, from a run's files."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctclip.cohorts.cohort import Cohort
from ctclip.evaluation.scoring import scores_path
from ctclip.evaluation.zeroshot import load_scores
from ctclip.pages.evaluation_page import config_blocks, evaluation_blocks
from ctclip.pages.page import Block, Heading, Notice, Picture, Table, Text, new_figure, write_page
from ctclip.pages.page_style import Ink
from ctclip.pages.plot_axes import style_axes
from ctclip.training.runlog import read_metrics
from ctload.storage.store import open_store

_SYNTHETIC = (
    "Everything on this page is synthetic: procedural phantoms with known truth. The scores say that the path from "
    "file to score works; they say nothing about patients."
)
_NUM_SLICES = 6


def write_demo_page(
    path: Path, *, cohort: Cohort, store: Path, run: Path, report: dict[str, Any], seconds: dict[str, float]
) -> Path:
    """Write the page.

    Args:
        path: FILE.html.
        cohort: The phantoms, all splits.
        store: Their store.
        run: The training run.
        report: Of ctclip.evaluation.run_report, of split "test".
        seconds: Wall time of each stage of this call.
    """
    metrics = read_metrics(run)
    blocks: list[Block] = [
        Notice(_SYNTHETIC),
        Text(cohort.summary().replace("\n", ";")),
        Heading("Sample slices"),
        Picture(
            _slices(cohort.split("test"), store),
            "Coronal slices of held-out phantoms, HU window -150 to 250.",
            is_raster=True,
        ),
        *evaluation_blocks(load_scores(scores_path(run, "test").with_suffix(".npz")), report),
        Heading("Training"),
        Picture(_curves(metrics), "Loss, and studies per second, over the optimizer steps."),
        _throughput_table(metrics, seconds),
        *config_blocks(run),
    ]
    return write_page(path, "ctclip demo: synthetic phantoms, from file to zero-shot score", blocks)


def _slices(cohort: Cohort, store: Path) -> Figure:
    opened = open_store(store)
    figure = new_figure(12, 2.9)
    for number, study in enumerate(cohort.studies[:_NUM_SLICES]):
        volume = opened.read(study)  # (D, H, W) int16 HU
        z_mm, _, x_mm = opened.studies.spacings_mm[opened.studies.row_of(study)]
        axes = figure.add_subplot(1, _NUM_SLICES, number + 1)
        # Rows of a picture run down and patients face the reader: superior on top, the right side on the left.
        axes.imshow(volume[::-1, volume.shape[1] // 2, ::-1], cmap="gray", vmin=-150, vmax=250, aspect=z_mm / x_mm)
        present = [name for name, label in zip(cohort.findings, cohort.labels()[number], strict=True) if label == 1]
        axes.set_title("\n".join(present[:3]) or "no finding", fontsize=6)
        axes.set_axis_off()
    return figure


def _curves(metrics: list[dict[str, Any]]) -> Figure:
    figure = new_figure(9, 3)
    steps = np.array([line["step"] for line in metrics])
    for number, (name, label) in enumerate((("loss", "loss"), ("studies_per_s", "studies/s"))):
        axes = style_axes(figure.add_subplot(1, 2, number + 1), x_label="optimizer step", y_label=label)
        axes.plot(steps, [line[name] for line in metrics], color=Ink.FIRST, linewidth=1.2)
        axes.set_ylim(bottom=0)
    return figure


def _throughput_table(metrics: list[dict[str, Any]], seconds: dict[str, float]) -> Table:
    rates = np.median([line["studies_per_s"] for line in metrics])
    waits = np.median([line["wait_share"] for line in metrics])
    rows = [[f"{stage} (this call)", f"{spent:.1f} s"] for stage, spent in seconds.items()]
    rows += [["training, median", f"{rates:.1f} studies/s"], ["waiting for data, median", f"{waits:.1%} of a step"]]
    return Table(["stage", "measured"], rows)
