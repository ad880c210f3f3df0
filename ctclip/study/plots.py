"""Figures of a study: from its summary to matplotlib figures, and nothing else."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctclip.evaluation.zeroshot import ScoreTable
from ctclip.pages.page import new_figure
from ctclip.pages.page_style import Ink
from ctclip.pages.plot_axes import NORMAL, SMALL, add_legend, forest, readable, small_multiples, style_axes
from ctclip.study.scaling import PowerLaw

_BINS = 40


def effect_forest(effects: list[dict[str, Any]], *, x_label: str) -> Figure:
    """Differences with their intervals."""
    rows = [(effect["name"], effect) for effect in effects]
    return forest(rows, x_label=x_label, reference=0.0, reference_label="no difference", num_strong=0)


def seed_plot(summary: dict[str, Any], metric: str, *, y_label: str) -> Figure:
    """Every seed's score by arm, lines joining the arms of one seed."""
    arms = summary["arms"]
    figure = new_figure(max(5.0, 1.15 * len(arms)), 3.6)
    axes = style_axes(figure.subplots(), y_label=y_label)
    places = {title: place for place, title in enumerate(arms)}
    for seed in summary["seeds"]:
        points = [
            (places[title], arm["by_seed"][metric][arm["seeds"].index(seed)])
            for title, arm in arms.items()
            if seed in arm["seeds"]
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color=Ink.MUTED, linewidth=0.6, alpha=0.5, marker="o", markersize=3)
    means = [arm["scores"][metric]["mean"] for arm in arms.values()]
    axes.plot(list(places.values()), means, linestyle="none", marker="_", markersize=22, color=Ink.FIRST, label="mean")
    axes.set_xticks(list(places.values()), [title.replace(", ", "\n") for title in arms], fontsize=SMALL)
    add_legend(axes)
    return figure


def scaling_curve(summary: dict[str, Any], metric: str, *, y_label: str) -> Figure:
    """Scores by fraction with the fitted power law."""
    figure = new_figure(6.0, 3.6)
    axes = style_axes(figure.subplots(), x_label="share of the training studies", y_label=y_label)
    arms = [arm for arm in summary["arms"].values() if arm["strategy"] == "random"]
    for arm in arms:
        seeds = arm["by_seed"][metric]
        axes.plot([arm["fraction"]] * len(seeds), seeds, linestyle="none", marker="o", markersize=3.5, color=Ink.MUTED)
        axes.plot([arm["fraction"]], [arm["scores"][metric]["mean"]], marker="o", markersize=7, color=Ink.FIRST)
    law = PowerLaw(**summary["scaling"][metric])
    x = np.geomspace(min(arm["fraction"] for arm in arms), 1, 60)
    axes.plot(x, law.score(x), color=Ink.SECOND, linewidth=1.5, label=f"1 - {law.a:.3f} n^-{law.b:.3f}")
    axes.set_xscale("log")
    axes.set_xticks([arm["fraction"] for arm in arms], [f"{arm['fraction']:.0%}" for arm in arms])
    axes.minorticks_off()
    add_legend(axes)
    return figure


def finding_heat_map(rows: list[dict[str, Any]]) -> Figure:
    """AUROC differences by finding (rare ones first) and comparison; a ring where Holm's p is below 0.05."""
    names = sorted(rows[0]["findings"], key=lambda name: rows[0]["findings"][name]["prevalence"])
    values = np.array([[row["findings"][name]["difference"] or 0.0 for name in names] for row in rows])
    figure = new_figure(max(6.0, 0.5 * len(names) + 3.5), 1.6 + 0.32 * len(rows))
    axes = style_axes(figure.subplots())
    axes.grid(visible=False)
    reach = max(float(np.abs(values).max()), 1e-6)
    image = axes.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for y, row in enumerate(rows):
        for x, name in enumerate(names):
            p = row["findings"][name]["p_holm"]
            if p is not None and p < 0.05:
                axes.plot(x, y, marker="o", markersize=7, markerfacecolor="none", markeredgecolor=Ink.TEXT)
    labels = [f"{readable(name)} ({rows[0]['findings'][name]['prevalence']:.0%})" for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", fontsize=SMALL)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=SMALL)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("AUROC difference", color=Ink.TEXT, fontsize=NORMAL)
    bar.ax.tick_params(colors=Ink.MUTED, labelsize=SMALL)
    return figure


def similarity_histograms(tables: dict[str, ScoreTable]) -> Figure:
    """Scores of present and absent findings, all findings pooled, one panel per arm (its first seed)."""
    figure, panels = small_multiples(len(tables), num_columns=4, height=2.1)
    for (title, table), axes in zip(tables.items(), panels, strict=True):
        style_axes(axes, size=SMALL)
        axes.set_title(title, fontsize=SMALL, color=Ink.TEXT)
        axes.set_yticks([])
        edges = np.histogram_bin_edges(table.scores, bins=_BINS)
        for label, colour, name in ((0, Ink.FIRST, "absent"), (1, Ink.SECOND, "present")):
            density, _ = np.histogram(table.scores[table.labels == label], bins=edges, density=True)
            axes.stairs(density, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(density, edges, color=colour, linewidth=1.2, label=name)
    add_legend(panels[0])
    return figure
