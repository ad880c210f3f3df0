"""A run's page: one self-contained HTML file. Blocks of text, tables and pictures go in; a string comes out.

It knows nothing of training or scores: whoever has something to show makes the blocks. Pictures are embedded as
data URIs, so the file needs no network and can be mailed.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.notice { background: #fff4d6; border-left: 4px solid #d69e00; padding: .6rem 1rem; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #dde3ea; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #8895a5; }
tr.strong td { font-weight: 600; background: #eef3f8; }
img { max-width: 100%; height: auto; } figcaption { color: #556; font-size: .88rem; } figure { margin: 1rem 0; }
pre { background: #f4f6f8; padding: .8rem; overflow-x: auto; font-size: .82rem; }
"""


@dataclass(frozen=True)
class Heading:
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
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, already formatted. Rows whose index is in `strong` are set off (totals, means)."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    figure: Figure
    caption: str


Block = Heading | Text | Notice | Code | Table | Picture


def new_figure(width: float = 8.0, height: float = 3.2) -> Figure:
    """An empty figure, in inches, that needs no display and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def render(title: str, blocks: Sequence[Block]) -> str:
    """The page as one string of HTML."""
    body = "\n".join(_render_block(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def write_page(path: Path, title: str, blocks: Sequence[Block]) -> Path:
    """Write the page and give its absolute path."""
    path.write_text(render(title, blocks), encoding="utf-8")
    return path.resolve()


def _render_block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Notice(text):
            return f'<p class="notice">{html.escape(text)}</p>'
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table():
            return _render_table(block)
        case Picture(figure, caption):
            return _render_picture(figure, caption)


def _render_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(
        _row_tag(index in table.strong) + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for index, row in enumerate(table.rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _render_picture(figure: Figure, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _row_tag(strong: bool) -> str:
    return '<tr class="strong">' if strong else "<tr>"
