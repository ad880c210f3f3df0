"""Axes in the page's colours, and plots that several pages share. Figures in the colours of `Ink` come out."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctclip.pages.page import new_figure
from ctclip.pages.page_style import Ink

SMALL, NORMAL = 8, 9.5  # points


def style_axes(axes: Axes, *, x_label: str = "", y_label: str = "", size: float = NORMAL) -> Axes:
    """Axes without a box, with quiet grid lines behind the data."""
    axes.set_xlabel(x_label, color=Ink.TEXT, fontsize=size)
    axes.set_ylabel(y_label, color=Ink.TEXT, fontsize=size)
    axes.tick_params(colors=Ink.MUTED, labelsize=size - 1, length=0)
    axes.grid(color=Ink.GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_color(Ink.GRID)
        spine.set_visible(name in ("left", "bottom"))
    return axes


def add_legend(where: Axes | Figure, **options: Any) -> None:
    """A legend without a frame."""
    where.legend(frameon=False, labelcolor=Ink.TEXT, fontsize=SMALL + 1, **options)


def small_multiples(num: int, *, num_columns: int = 6, height: float = 1.75) -> tuple[Figure, list[Axes]]:
    """A figure of `num` panels of one size, and their axes in reading order."""
    columns = min(num_columns, max(num, 1))
    rows = -(-num // columns)
    figure = new_figure(11.4 * columns / num_columns if columns < num_columns else 11.4, 0.5 + height * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for spare in grid.flat[num:]:
        spare.set_axis_off()
    return figure, list(grid.flat[:num])


def readable(name: str) -> str:
    """A finding's name with blanks."""
    return name.replace("_", " ")


def forest(
    rows: Sequence[tuple[str, dict[str, Any]]],
    *,
    x_label: str,
    reference: float,
    reference_label: str,
    num_strong: int = 1,
    marks: Sequence[float | None] = (),
    mark_label: str = "",
) -> Figure:
    """Values with their intervals, one row each, against a reference line.

    Args:
        rows: (name, {"value", "low", "high"}); None values leave the row empty and say so.
        x_label: What the values are.
        reference: Where the dashed line stands.
        reference_label: What it means.
        num_strong: Rows at the end that are set off, such as the mean.
        marks: One further value per row, drawn as a tick; () for none.
        mark_label: What these are.
    """
    figure = new_figure(10.0, 0.9 + 0.27 * len(rows))
    axes = style_axes(figure.add_subplot(), x_label=x_label)
    axes.axvline(reference, color=Ink.MUTED, linestyle=(0, (4, 3)), linewidth=1, label=reference_label)
    first_strong = len(rows) - num_strong
    for number, (_, score) in enumerate(rows):
        if score["value"] is None:
            axes.annotate(
                "undefined", (reference, number), color=Ink.MUTED, fontsize=SMALL, va="center", xytext=(4, 0),
                textcoords="offset points",
            )  # fmt: skip
            continue
        colour, marker = (Ink.SECOND, "D") if number >= first_strong else (Ink.FIRST, "o")
        axes.plot([score["low"], score["high"]], [number, number], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(score["value"], number, marker, color=colour, markersize=5.5)
    for number, mark in enumerate(marks):
        if mark is not None:
            label = mark_label if number == 0 else "_"
            axes.plot(mark, number, "|", color=Ink.TEXT, markersize=9, label=label)
    axes.set_yticks(range(len(rows)), [readable(name) for name, _ in rows], color=Ink.TEXT, fontsize=NORMAL - 0.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    add_legend(figure, loc="outside upper right", ncols=2)
    return figure
