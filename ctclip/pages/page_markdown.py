"""The same blocks as Markdown, for a repository: text and tables in full, of a picture its caption alone."""

from collections.abc import Sequence

from ctclip.pages.page import Block, Code, Facts, Heading, Notice, Picture, Table, Text, Tiles


def render_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page as one string of Markdown.

    Example:
        >>> print(render_markdown("A page", [Heading("Numbers"), Table(("a", "b"), [("1", "2\\nsmall")])]))
        # A page
        <BLANKLINE>
        ## Numbers
        <BLANKLINE>
        | a | b |
        |---|---|
        | 1 | 2<br>small |
        <BLANKLINE>
    """
    return "\n\n".join([f"# {title}", *(_render_block(block) for block in blocks)]) + "\n"


def _render_block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Notice(text):
            return f"> **{text}**"
        case Code(summary, text):
            return f"{summary}:\n\n```\n{text}\n```"
        case Facts(pairs):
            return "\n".join(f"- {name}: {value}" for name, value in pairs)
        case Tiles(tiles):
            return "\n".join(f"- {name}: **{value}** ({note})" for name, value, note in tiles)
        case Table():
            return _render_table(block)
        case Picture(caption=caption):
            return f"*Plot on the page: {caption}*"


def _render_table(table: Table) -> str:
    lines = [_row(table.header), "|" + "---|" * len(table.header), *(_row(row) for row in table.rows)]
    return "\n".join([f"{table.caption}\n", *lines] if table.caption else lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"
