"""A run's page: one self-contained HTML file. Blocks of text, tables and pictures go in; a string comes out.

It knows nothing of training or scores: whoever has something to show makes the blocks. Pictures stand in the file
itself, so it needs no network and can be mailed. It has no script.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctclip.pages.page_style import STYLE
from ctclip.pages.svg import inline_svg
from ctload.storage.durable import replace_file


@dataclass(frozen=True)
class Heading:
    """Begins a section; the page's contents list links to it."""

    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence that no reader may miss, such as: these studies are synthetic."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text as it is, folded away under a summary."""

    summary: str
    text: str


@dataclass(frozen=True)
class Facts:
    """Short (name, value) pairs: where a score comes from."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tiles:
    """The numbers to see first: (name, value, note) each."""

    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells, already formatted; what follows a line break in a cell is set small below the rest.

    Rows whose index is in `strong` are set off (totals, means).
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption: as SVG, or as PNG where it shows voxels."""

    figure: Figure
    caption: str
    is_raster: bool = False


Block = Heading | Text | Notice | Code | Facts | Tiles | Table | Picture


def new_figure(width: float = 8.0, height: float = 3.2) -> Figure:
    """An empty figure, in inches, that needs no display and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page as one string of HTML."""
    numbers = count(1)
    body = "\n".join(_render_block(block, f"f{next(numbers)}") for block in blocks)
    links = [(_anchor(block.text), block.text) for block in blocks if isinstance(block, Heading)]
    contents = "".join(f'<a href="#{anchor}">{html.escape(text)}</a>' for anchor, text in links)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head><body>\n<header><h1>{html.escape(title)}</h1>'
        f'</header>\n<nav aria-label="Contents">{contents}</nav>\n<main>\n{body}\n</main></body></html>\n'
    )


def write_page(path: Path, title: str, blocks: Sequence[Block]) -> Path:
    """Write the page, whole or not at all, and give its absolute path."""
    replace_file(path, render(title, blocks).encode())
    return path.resolve()


def _render_block(block: Block, prefix: str) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{_anchor(text)}">{html.escape(text)}</h2>'
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Notice(text):
            return f'<p class="notice" role="note">{html.escape(text)}</p>'
        case Code(summary, text):
            return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"
        case Facts(pairs):
            items = "".join(f"<li><b>{html.escape(name)}</b> {html.escape(value)}</li>" for name, value in pairs)
            return f'<ul class="facts">{items}</ul>'
        case Tiles(tiles):
            return f'<div class="tiles">{"".join(_render_tile(*tile) for tile in tiles)}</div>'
        case Table():
            return _render_table(block)
        case Picture():
            return _render_picture(block, prefix)


def _render_tile(name: str, value: str, note: str) -> str:
    parts = (("name", name), ("value", value), ("note", note))
    return '<div class="tile">' + "".join(f'<div class="{kind}">{html.escape(t)}</div>' for kind, t in parts) + "</div>"


def _render_table(table: Table) -> str:
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(_render_row(row, index in table.strong) for index, row in enumerate(table.rows))
    return (
        f'<div class="scroll" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody>'
        "</table></div>"
    )


def _render_row(row: Sequence[str], is_strong: bool) -> str:
    first, *others = (_render_cell(cell) for cell in row)
    tag = '<tr class="strong">' if is_strong else "<tr>"
    return f'{tag}<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"


def _render_cell(cell: str) -> str:
    main, _, below = cell.partition("\n")
    return html.escape(main) + (f"<small>{html.escape(below)}</small>" if below else "")


def _render_picture(picture: Picture, prefix: str) -> str:
    caption = html.escape(picture.caption)
    if not picture.is_raster:
        svg = inline_svg(picture.figure, label=picture.caption, prefix=prefix)
        return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
