"""The demo's page: what it made, how it trained, what it scored. Blocks for ctclip.page, from a run's files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctclip.cohorts.cohort import Cohort
from ctclip.page import Block, Code, Heading, Notice, Picture, Table, Text, new_figure, write_page
from ctclip.runlog import read_metrics
from ctload.store import open_store

_SYNTHETIC = (
    "Everything on this page is synthetic: procedural phantoms with known truth. The scores say that the path from "
    "file to score works; they say nothing about patients."
)
_NUM_SLICES = 6
_METRICS = {
    "auroc": "AUROC", "f1_balanced": "F1, balanced", "f1": "F1", "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
}  # fmt: skip


def write_demo_page(
    path: Path, *, cohort: Cohort, store: Path, run: Path, report: dict[str, Any], seconds: dict[str, float]
) -> Path:
    """Write the page.

    Args:
        path: FILE.html.
        cohort: The phantoms, all splits.
        store: Their store.
        run: The training run.
        report: Of ctclip.evaluation.
        seconds: Wall time of each stage of this call.
    """
    metrics = read_metrics(run)
    blocks: list[Block] = [
        Notice(_SYNTHETIC),
        Text(cohort.summary().replace("\n", ";")),
        Heading("Sample slices"),
        Picture(_slices(cohort.split("test"), store), "Coronal slices of held-out phantoms, HU window -150 to 250."),
        Heading("Zero-shot scores on held-out phantoms"),
        Text(_stamp_text(report)),
        _score_table(report),
        Picture(_intervals(report), "AUROC per finding with its interval. Dashed: 0.5, what chance scores."),
        Heading("Training"),
        Picture(_curves(metrics), "Loss, and studies per second, over the optimizer steps."),
        _throughput_table(metrics, seconds),
        Heading("Configuration"),
        Code((run / "config.json").read_text(encoding="utf-8")),
        Code(json.dumps(json.loads((run / "machine.json").read_text(encoding="utf-8")), indent=1)),
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


def _stamp_text(report: dict[str, Any]) -> str:
    stamp, counts = report["stamp"], report["counts"]
    return (
        f"{counts['studies']} studies of {counts['patients']} patients; prompts {stamp['prompts']}; labels from "
        f"{stamp['label_source']}; thresholds from {stamp['threshold_from']} (rule {stamp['threshold_rule']}); "
        f"{stamp['level']:.0%} intervals from {stamp['num_bootstraps']} bootstrap draws of patients."
    )


def _cell(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "undefined"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _score_table(report: dict[str, Any]) -> Table:
    rows = [
        [name.replace("_", " "), f"{scores['num_positive']} / {scores['num_negative']}"]
        + [_cell(scores[metric]) for metric in _METRICS]
        for name, scores in report["findings"].items()
    ]
    macro, trivial = report["macro"], report["macro"]["trivial"]
    rows.append(["macro mean", "", *(_cell(macro[metric]) for metric in _METRICS)])
    rows.append(["always positive (macro mean)", "", *(f"{trivial[metric]:.3f}" for metric in _METRICS)])
    strong = frozenset({len(rows) - 2, len(rows) - 1})
    return Table(["finding", "present / absent", *_METRICS.values()], rows, strong)


def _intervals(report: dict[str, Any]) -> Figure:
    names = list(report["findings"])
    scores = [report["findings"][name]["auroc"] for name in names]
    figure = new_figure(8, 0.6 + 0.26 * len(names))
    axes = figure.add_subplot()
    for row, score in enumerate(scores):
        if score["value"] is not None:
            axes.plot([score["low"], score["high"]], [row, row], color="#5f7fa3", lw=2)
            axes.plot(score["value"], row, "o", color="#1d3b5e", ms=5)
    axes.axvline(0.5, color="#999", ls="--", lw=1)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("AUROC")
    return figure


def _curves(metrics: list[dict[str, Any]]) -> Figure:
    figure = new_figure(9, 3)
    steps = np.array([line["step"] for line in metrics])
    for number, (name, label) in enumerate((("loss", "loss"), ("studies_per_s", "studies/s"))):
        axes = figure.add_subplot(1, 2, number + 1)
        axes.plot(steps, [line[name] for line in metrics], color="#1d3b5e", lw=1)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    return figure


def _throughput_table(metrics: list[dict[str, Any]], seconds: dict[str, float]) -> Table:
    rates = np.median([line["studies_per_s"] for line in metrics])
    waits = np.median([line["wait_share"] for line in metrics])
    rows = [[f"{stage} (this call)", f"{spent:.1f} s"] for stage, spent in seconds.items()]
    rows += [["training, median", f"{rates:.1f} studies/s"], ["waiting for data, median", f"{waits:.1%} of a step"]]
    return Table(["stage", "measured"], rows)
