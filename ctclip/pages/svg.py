"""A matplotlib figure as SVG that stands in a page: no file, no network, text as text, the page's colours."""

import html
import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

from ctclip.pages.page_style import VARIABLES

_COLOUR = re.compile("|".join(VARIABLES))
_IDS = re.compile(r'(\bid="|url\(#|href="#)')
_AROUND = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", re.DOTALL)
_SIZE = re.compile(r'<svg [^>]*?viewBox="(0 0 ([\d.]+) [\d.]+)"[^>]*>', re.DOTALL)


def inline_svg(figure: Figure, *, label: str, prefix: str) -> str:
    """An <svg> element.

    Args:
        figure: Drawn in the colours of `ctclip.pages.page_style.Ink`.
        label: What a screen reader says.
        prefix: Put before every id in it; another one for every figure of a page.

    Returns:
        The same text for the same figure.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ctclip"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = _AROUND.sub("", buffer.getvalue()).strip()
    text = _COLOUR.sub(lambda match: f"var({VARIABLES[match.group()]})", text)
    text = _IDS.sub(lambda match: f"{match.group()}{prefix}-", text)
    match = _SIZE.search(text)
    assert match, "matplotlib writes a viewBox"
    head = (
        f'<svg role="img" aria-label="{html.escape(label)}" viewBox="{match.group(1)}" '
        f'width="{float(match.group(2)) * 4 / 3:.0f}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + text[match.end() :]
