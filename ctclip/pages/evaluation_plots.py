"""Figures of an evaluation: from a score table and its report to matplotlib figures, and nothing else."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctclip.evaluation.curves import reliability, roc_points, score_histograms
from ctclip.evaluation.zeroshot import ScoreTable, probabilities
from ctclip.pages.page import new_figure
from ctclip.pages.page_style import Ink
from ctclip.pages.plot_axes import SMALL, add_legend, forest, readable, small_multiples, style_axes

MAX_CURVE_POINTS = 400


def auroc_forest(report: dict[str, Any]) -> Figure:
    """AUROC of every finding and their mean, with intervals."""
    rows = [(name, scores["auroc"]) for name, scores in report["findings"].items()]
    rows.append(("macro mean", report["macro"]["auroc"]))
    return forest(rows, x_label="AUROC", reference=0.5, reference_label="0.5, what chance scores")


def roc_panels(table: ScoreTable, report: dict[str, Any]) -> Figure:
    """One small ROC plot per finding, its AUROC inside."""
    figure, panels = small_multiples(len(table.findings))
    for column, (name, axes) in enumerate(zip(table.findings, panels, strict=True)):
        style_axes(axes, size=SMALL)
        axes.plot([0, 1], [0, 1], color=Ink.MUTED, linestyle=(0, (4, 3)), linewidth=0.8)
        false_rates, true_rates = _thinned(*roc_points(table.labels[:, column], table.scores[:, column]))
        axes.plot(false_rates, true_rates, color=Ink.FIRST, linewidth=1.6)
        value = report["findings"][name]["auroc"]["value"]
        axes.text(0.97, 0.06, "undefined" if value is None else f"{value:.3f}", ha="right", color=Ink.TEXT,
                  fontsize=SMALL + 1)  # fmt: skip
        axes.set_title(readable(name), fontsize=SMALL, color=Ink.TEXT)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.label_outer()
    _label_all(figure, "false positive rate", "true positive rate")
    return figure


def similarity_panels(table: ScoreTable, report: dict[str, Any]) -> Figure:
    """Histograms of the scores of positive and negative studies, one panel per finding, and the threshold."""
    figure, panels = small_multiples(len(table.findings))
    for column, (name, axes) in enumerate(zip(table.findings, panels, strict=True)):
        style_axes(axes, size=SMALL)
        labels = table.labels[:, column]
        axes.set_title(readable(name), fontsize=SMALL, color=Ink.TEXT)
        axes.set_yticks([])
        if not (labels >= 0).any():
            continue
        edges, positives, negatives = score_histograms(labels, table.scores[:, column], num_bins=24)
        for counts, colour, label in ((negatives, Ink.FIRST, "absent"), (positives, Ink.SECOND, "present")):
            heights = counts / max(counts.sum(), 1)
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(heights, edges, color=colour, linewidth=1.3, label=label if column == 0 else "_")
        threshold = report["findings"][name]["threshold"]
        if threshold is not None and 0 < threshold < 1:
            cut = np.log(threshold / (1 - threshold)) / report["stamp"]["logit_scale"]
            line = {"color": Ink.MUTED, "linestyle": (0, (4, 3)), "linewidth": 0.9}
            axes.axvline(cut, **line, label="threshold" if column == 0 else "_")
    add_legend(figure, loc="outside upper right", ncols=3)
    _label_all(figure, "similarity to the positive prompts less that to the negative ones", "share of studies")
    return figure


def reliability_figure(table: ScoreTable, *, logit_scale: float) -> tuple[Figure, float]:
    """(predicted against observed frequency over all findings, with the counts below; calibration error)."""
    chances = probabilities(table.scores, logit_scale=logit_scale)
    found = reliability(table.labels.ravel(), chances.ravel())
    figure = new_figure(6.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    style_axes(upper, y_label="observed share of positives")
    upper.plot([0, 1], [0, 1], color=Ink.MUTED, linestyle=(0, (4, 3)), linewidth=1, label="perfectly calibrated")
    upper.plot(found.predicted, found.observed, "o-", color=Ink.FIRST, markersize=5, label="all findings, in tenths")
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    add_legend(upper, loc="upper left")
    style_axes(lower, x_label="predicted probability", y_label="labels")
    lower.bar(found.predicted, found.counts, width=0.05, color=Ink.FIRST, alpha=0.7)
    return figure, found.error


def retrieval_figure(report: dict[str, Any]) -> Figure:
    """Recall at K both ways, with intervals, against drawing at random."""
    figure = new_figure(7.2, 3.6)
    axes = style_axes(figure.add_subplot(), x_label="K, nearest that are looked at", y_label="recall at K")
    ks = report["ks"]
    ways = (("image_to_text", "image to report", Ink.FIRST, "o"), ("text_to_image", "report to image", Ink.SECOND, "s"))
    for shift, (key, label, colour, marker) in zip((0.985, 1.015), ways, strict=True):
        scores = [report[key]["recall"][str(k)] for k in ks]
        values = np.array([score["value"] for score in scores])
        ends = [values - [score["low"] for score in scores], [score["high"] for score in scores] - values]
        axes.errorbar(
            np.array(ks) * shift, values, np.clip(ends, 0, None), fmt=f"{marker}-", color=colour, capsize=3,
            markersize=5, linewidth=1.5, label=label,
        )  # fmt: skip
    axes.plot(ks, [report["random"][str(k)] for k in ks], linestyle=(0, (4, 3)), color=Ink.MUTED, label="at random")
    axes.set_xscale("log")
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    add_legend(axes, loc="upper left")
    return figure


def template_figure(report: dict[str, Any]) -> Figure:
    """Macro AUROC under every prompt template, their mean and the ensemble of all."""
    figure = new_figure(7.6, 3.4)
    axes = style_axes(figure.add_subplot(), x_label="macro AUROC")
    scores = [(name, value) for name, value in report["macro_auroc"].items() if value is not None]
    axes.axvline(report["mean"], color=Ink.MUTED, linestyle=(0, (4, 3)), linewidth=1, label="mean of the templates")
    axes.plot([value for _, value in scores], range(len(scores)), "o", color=Ink.FIRST, label="one template")
    axes.plot(report["ensemble"], len(scores), "D", color=Ink.SECOND, label="all templates together")
    names = [*(name for name, _ in scores), "ensemble"]
    axes.set_yticks(range(len(names)), names, color=Ink.TEXT)
    axes.set_ylim(len(names) - 0.4, -0.6)
    add_legend(figure, loc="outside upper right", ncols=3)
    return figure


def cosine_figure(report: dict[str, Any]) -> Figure:
    """Histograms of the cosines across groups, one panel for each kind of embedding."""
    shown = [(kind, part) for kind, part in report.items() if part is not None]
    figure = new_figure(3.7 * len(shown), 2.7)
    for number, (kind, part) in enumerate(shown):
        axes = style_axes(figure.add_subplot(1, len(shown), number + 1), x_label="cosine", size=SMALL + 0.5)
        counts = np.array(part["histogram"])
        edges = np.linspace(-1, 1, len(counts) + 1)
        axes.stairs(counts / max(counts.sum(), 1), edges, fill=True, color=Ink.FIRST, alpha=0.6)
        axes.axvline(part["mean"], color=Ink.SECOND, linewidth=1.4, label=f"mean {part['mean']:.2f}")
        axes.set_title(kind, color=Ink.TEXT, fontsize=SMALL + 1)
        axes.set(xlim=(-1, 1), xticks=[-1, -0.5, 0, 0.5, 1])
        axes.set_ylabel("share of pairs" if number == 0 else "", color=Ink.TEXT, fontsize=SMALL + 0.5)
        add_legend(axes, loc="upper left")
    return figure


def pointing_forest(report: dict[str, Any]) -> Figure:
    """Accuracy of the pointing game per finding and its mean, and what a voxel at random scores."""
    entries = {name: entry for name, entry in report["findings"].items() if entry["num"]}
    rows = [(f"{name} (n={entry['num']})", entry["accuracy"]) for name, entry in entries.items()]
    rows.append(("macro mean", report["accuracy"]))
    marks = [*(entry["chance"] for entry in entries.values()), report["chance"]]
    return forest(
        rows, x_label="share of studies whose highest voxel lies in the mask", reference=0, reference_label="0",
        marks=marks, mark_label="a voxel drawn at random",
    )  # fmt: skip


def _label_all(figure: Figure, x_label: str, y_label: str) -> None:
    figure.supxlabel(x_label, fontsize=SMALL + 1, color=Ink.TEXT)
    figure.supylabel(y_label, fontsize=SMALL + 1, color=Ink.TEXT)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_CURVE_POINTS points of a curve, its ends among them."""
    if len(x) <= MAX_CURVE_POINTS:
        return x, y
    rows = np.unique(np.linspace(0, len(x) - 1, MAX_CURVE_POINTS).round().astype(np.int64))
    return x[rows], y[rows]
